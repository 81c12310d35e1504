//! What is printed for the tiers.

use std::path::Path;

use super::super::{ClusterSecret, HubFile, Keeps, Mistakes, generate, matches_vector};
use super::generate_site;

const REGION: &str = r#"
[hub]
name = "eu"
max-store = "64 GiB"

[[node]]
name = "eu-1"
hosts = ["eu-1.example.com"]
client = "0.0.0.0:4222"
leaf = "0.0.0.0:7422"

[[stream]]
name = "TIDE-EU"
plants = ["PlantA", "PlantB"]

[[user]]
name = "admin"
role = "admin"

[[user]]
name = "operator"
role = "operator"

[[user]]
name = "historian"
role = "reader"

[[site]]
name = "site-a"
hosts = ["site-a.example.com"]
client = "127.0.0.1:4222"
leaf = "0.0.0.0:7422"
gateways = ["PlantA/*"]

[[mirror]]
name = "global"

[[gateway]]
id = "PlantA/gw1"
prefixes = ["PlantA/Line1"]

[[gateway]]
id = "PlantA/gw2"
prefixes = ["PlantA/Line2"]
shares = ["PlantB/*"]

[[gateway]]
id = "PlantB/gw1"
prefixes = ["PlantB"]
"#;

const GLOBAL: &str = r#"
[hub]
name = "global"
max-store = "64 GiB"

[[node]]
name = "global-1"
hosts = ["global-1.example.com"]
client = "0.0.0.0:4222"
leaf = "0.0.0.0:7422"

[[stream]]
name = "TIDE-EU"
plants = ["PlantA", "PlantB"]
mirrors = "eu"

[[region]]
name = "eu"
urls = ["tls://eu-1.example.com"]

[[user]]
name = "admin"
role = "admin"

[[user]]
name = "operator"
role = "operator"
"#;

fn read(text: &str) -> Result<HubFile, Mistakes> {
    HubFile::read(Path::new("hub.toml"), text)
}

fn printed(text: &str) -> String {
    let file = read(text).unwrap();
    generate(&file.plan(&file.nodes[0], &ClusterSecret::new().unwrap())).unwrap()
}

#[test]
fn a_region_with_a_site_and_a_mirror_matches_its_vector() {
    matches_vector("region.conf", &printed(REGION));
}

#[test]
fn a_site_matches_its_vector() {
    let file = read(REGION).unwrap();
    matches_vector("site.conf", &generate_site(&file.site_plan(&file.sites[0])));
}

#[test]
fn a_tier_above_matches_its_vector_and_keeps_a_mirror() {
    matches_vector("global.conf", &printed(GLOBAL));
    let plans = read(GLOBAL).unwrap().stream_plans();
    let Keeps::Mirror { api, deliver } = &plans[0].keeps else { panic!("{plans:?}") };
    assert_eq!(api, "tidemirror.TIDE-EU.api");
    assert_eq!(deliver, "tidemirror.TIDE-EU.deliver.global");
    // Its region lets it ask and deliver there.
    let region = printed(REGION);
    assert!(region.contains(&format!("{api}.CONSUMER.CREATE.TIDE-EU")));
    assert!(region.contains(&format!("{deliver}.>")));
}

#[test]
fn a_gateway_of_a_site_is_known_at_the_site_alone() {
    let region = printed(REGION);
    let user = |name: &str| format!("user: \"CN={name},O=Tidegate\"");
    assert!(!region.contains(&user("PlantA/gw1")) && region.contains(&user("PlantB/gw1")));
    let file = read(REGION).unwrap();
    let site = generate_site(&file.site_plan(&file.sites[0]));
    assert!(site.contains(&user("PlantA/gw1")) && !site.contains(&user("PlantB/gw1")));
}

#[test]
fn a_hub_that_mirrors_nothing_and_has_no_site_is_printed_as_ever() {
    let plain = REGION.split("[[site]]").next().unwrap();
    let text = printed(plain);
    assert!(!text.contains("MIRRORS") && !text.contains("remotes"), "{text}");
}

#[test]
fn tiers_are_read_as_they_are_printed_and_every_mistake_is_told() {
    for text in [REGION, GLOBAL] {
        let file = read(text).unwrap();
        assert_eq!(read(&file.print()).unwrap(), file);
    }
    let wrong = REGION.replace(
        "[[mirror]]",
        "[[site]]\nname = \"eu-1\"\nhosts = [\"x\"]\n\
        client = \"127.0.0.1:1\"\nleaf = \"0.0.0.0:2\"\ngateways = [\"PlantA/gw1\"]\n\n[[mirror]]",
    );
    let wrong = wrong.replace("name = \"TIDE-EU\"", "name = \"TIDE-EU\"\nmirrors = \"us\"");
    let said = read(&wrong).unwrap_err().to_string();
    for what in ["\"eu-1\" appears twice", "served by site-a and by eu-1", "no region us"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    let plain = GLOBAL.replace("tls://eu-1.example.com", "nats://eu-1.example.com");
    assert!(read(&plain).unwrap_err().to_string().contains("does not begin with tls://"));
}
