//! What the sections of `hub.toml` have to do with each other.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::values::{Reader, Section};
use super::{
    HubFile, HubGateway, HubMirror, HubNode, HubRegion, HubSite, HubStream, Person, Takes,
};
use crate::config::{Mistake, Place, size};
use crate::hub::{LAST_VALUES, OWNERS, Role};

/// What has to do with other tiers, each with its section.
pub(super) struct Tiers<'s, 'a> {
    pub(super) nodes: &'s [(Section<'a>, HubNode)],
    pub(super) streams: &'s [(Section<'a>, HubStream)],
    pub(super) gateways: &'s [(Section<'a>, HubGateway)],
    pub(super) sites: &'s [(Section<'a>, HubSite)],
    pub(super) mirrors: &'s [(Section<'a>, HubMirror)],
    pub(super) regions: &'s [(Section<'a>, HubRegion)],
}

impl<'a> Reader<'a> {
    pub(super) fn check_tiers(&mut self, tiers: &Tiers<'_, 'a>) {
        let Tiers { nodes, streams, gateways, sites, mirrors, regions } = tiers;
        let servers = nodes.iter().map(|(it, node)| (it, "name", node.name.to_string()));
        let sites_names = sites.iter().map(|(it, site)| (it, "name", site.name.to_string()));
        // Servers that are named twice were told already.
        let mut seen = HashSet::new();
        let servers = servers.filter(|(_, _, name)| seen.insert(name.clone()));
        let mirrors_names = mirrors.iter().map(|(it, one)| (it, "name", one.name.to_string()));
        self.once(servers.chain(sites_names).chain(mirrors_names));
        self.once(regions.iter().map(|(it, region)| (it, "name", region.name.to_string())));
        for (section, gateway) in *gateways {
            let mut serving = sites.iter().filter(|(_, site)| site.serves(&gateway.id));
            if let (Some(first), Some(second)) = (serving.next(), serving.next()) {
                let message = format!(
                    "{} is served by {} and by {}, and can connect to one only",
                    gateway.id, first.1.name, second.1.name
                );
                self.refuse(Mistake::new(section.path_of("id"), section.place_of("id"), message));
            }
        }
        for (section, stream) in *streams {
            let Some(region) = &stream.mirrors else { continue };
            if !regions.iter().any(|(_, it)| it.name == *region) {
                let message = format!("there is no region {region}");
                let place = section.place_of("mirrors");
                let mistake = Mistake::new(section.path_of("mirrors"), place, message);
                self.refuse(mistake.legal("the name of a [[region]]"));
            }
        }
    }

    pub(super) fn check(
        &mut self,
        nodes: &[(Section<'a>, HubNode)],
        streams: &[(Section<'a>, HubStream)],
        gateways: &[(Section<'a>, HubGateway)],
        people: &[(Section<'a>, Person)],
    ) {
        self.once(nodes.iter().map(|(it, node)| (it, "name", node.name.to_string())));
        self.once(streams.iter().map(|(it, stream)| (it, "name", stream.name.to_string())));
        self.once(gateways.iter().map(|(it, gateway)| (it, "id", gateway.id.to_string())));
        self.once(people.iter().map(|(it, person)| (it, "name", person.name.to_string())));
        // Who appears twice has the same subject twice, and that was told.
        let mut seen = HashSet::new();
        let own = gateways.iter().filter(|(_, gateway)| seen.insert(&gateway.id));
        let own = own.map(|(it, gateway)| (it, "subject", gateway.subject()));
        self.once(own.chain(people.iter().map(|(it, person)| (it, "subject", person.subject()))));
        self.check_nodes(nodes);
        self.check_streams(streams, gateways);
        for role in [Role::Admin, Role::System] {
            if !people.is_empty() && !people.iter().any(|(_, person)| person.role == role) {
                let message = format!("no user is {}", role.word());
                let legal = format!("[[user]] with role = {:?}", role.word());
                self.refuse(Mistake::new("user", Place::WholeFile, message).legal(legal));
            }
        }
    }

    /// Each name may stand in one section only.
    fn once<'s>(&mut self, names: impl Iterator<Item = (&'s Section<'a>, &'s str, String)>)
    where
        'a: 's,
    {
        let mut seen: HashMap<String, Place> = HashMap::new();
        for (section, key, name) in names {
            let place = section.place_of(key);
            match seen.get(&name) {
                None => {
                    seen.insert(name, place);
                }
                Some(first) => {
                    let message = format!("{name:?} appears twice");
                    let mistake = Mistake::new(section.path_of(key), place, message);
                    self.refuse(mistake.other(first.clone(), "first written here"));
                }
            }
        }
    }

    fn check_nodes(&mut self, nodes: &[(Section<'a>, HubNode)]) {
        if let [_, second] = nodes {
            let message = "two servers stop when one fails: neither is a majority";
            let mistake = Mistake::new(second.0.path_of("name"), second.0.place(), message);
            self.refuse(mistake.legal("one server, or three"));
        }
        for (section, node) in nodes {
            match (nodes.len(), node.cluster) {
                (1, Some(_)) => {
                    let message = "a single server has no cluster";
                    let place = section.place_of("cluster");
                    self.refuse(Mistake::new(section.path_of("cluster"), place, message));
                }
                (2.., None) => {
                    self.missing(section, "cluster", "where the other servers connect");
                }
                _ => {}
            }
            let ports = [Some(node.client), Some(node.leaf), node.websocket, node.cluster];
            let keys = ["client", "leaf", "websocket", "cluster"];
            let mut taken: Vec<(SocketAddr, &str)> = Vec::new();
            for (port, key) in ports.into_iter().zip(keys) {
                let Some(port) = port else { continue };
                if let Some((_, other)) = taken.iter().find(|(one, _)| meets(*one, port)) {
                    let message = format!("{key} and {other} listen on one port");
                    let mistake =
                        Mistake::new(section.path_of(key), section.place_of(key), message);
                    self.refuse(mistake.value(port.to_string()));
                }
                taken.push((port, key));
            }
        }
    }

    fn check_streams(
        &mut self,
        streams: &[(Section<'a>, HubStream)],
        gateways: &[(Section<'a>, HubGateway)],
    ) {
        for (at, (section, stream)) in streams.iter().enumerate() {
            let taken = match stream.name.as_str() {
                LAST_VALUES => Some("this name belongs to the last values"),
                OWNERS => Some("this name belongs to the directory of owners"),
                _ => None,
            };
            if let Some(message) = taken {
                let place = section.place_of("name");
                self.refuse(Mistake::new(section.path_of("name"), place, message));
            }
            let overlaps =
                |other: &&(Section<'a>, HubStream)| overlap(&stream.takes, &other.1.takes);
            if let Some((first, other)) = streams.iter().take(at).find(overlaps) {
                let message = format!("it collects frames that {} collects, too", other.name);
                let mistake = Mistake::new(section.path_of("plants"), section.place(), message);
                let mistake = mistake.legal("streams without a plant or a gateway in common");
                self.refuse(mistake.other(first.place(), "the other one"));
            }
        }
        for (section, gateway) in gateways {
            let held = streams.iter().any(|(_, stream)| stream.takes.holds(&gateway.id));
            if !held && !streams.is_empty() {
                let message = format!("no stream collects the frames of {}", gateway.id);
                let mistake = Mistake::new(section.path_of("id"), section.place_of("id"), message);
                self.refuse(mistake.legal("a gateway or a plant that a [[stream]] names"));
            }
        }
    }

    /// Streams that together may keep more than there is room for would refuse when it is needed.
    pub(super) fn check_room(&mut self, section: &Section<'a>, file: &HubFile) {
        let planned = file.streams.iter().filter_map(|stream| file.bytes_of(stream));
        let planned = planned.fold(0_u64, u64::saturating_add);
        if planned > file.hub.max_store {
            let message = format!(
                "streams and budgets come to {}, and there is room for {}",
                size::format(planned),
                size::format(file.hub.max_store)
            );
            let place = section.place_of("max-store");
            self.refuse(Mistake::new(section.path_of("max-store"), place, message));
        }
    }
}

/// Whether two listeners would have the same port.
fn meets(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip() == other.ip())
}

fn overlap(one: &Takes, other: &Takes) -> bool {
    match (one, other) {
        (Takes::Every, _) | (_, Takes::Every) => true,
        (Takes::Plants(one), Takes::Plants(other)) => one.iter().any(|it| other.contains(it)),
        (Takes::Gateways(one), Takes::Gateways(other)) => one.iter().any(|it| other.contains(it)),
        (Takes::Plants(plants), Takes::Gateways(gateways))
        | (Takes::Gateways(gateways), Takes::Plants(plants)) => {
            gateways.iter().any(|it| plants.contains(&it.plant))
        }
    }
}
