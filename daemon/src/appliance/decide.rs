//! What is done with an offer. Pure.
//!
//! # Invariants
//! - A gateway without a configuration takes whatever passed the check.
//! - One that has a configuration takes another only when the medium says `replace = true` **and**
//!   names the same gateway **and** no earlier medium forbade it. A stick that was forgotten in the
//!   socket, or meant for the gateway beside it, changes nothing.
//! - What was applied once is not applied again, so a stick that stays in the socket does not undo
//!   what was changed since.
//! - A gateway's name is for ever: another one takes a reset first.

use super::short::LaterMedia;

/// The gateway as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// Its configuration, where it has one.
    pub configured: Option<Configured>,
    /// What was applied before, by its digest.
    pub applied: Vec<String>,
    /// Whether media may change it.
    pub later_media: LaterMedia,
    /// Whether it has a certificate that is in its time.
    pub has_certificate: bool,
}

/// A configuration that is in place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configured {
    /// Whose; `None` when it does not check and nobody remembers.
    pub gateway: Option<String>,
    /// Whether its text is the offered one.
    pub is_the_offered: bool,
}

/// What of an offer counts here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish<'a> {
    /// The gateway and the digest of an offered configuration.
    pub configuration: Option<(&'a str, &'a str)>,
    /// Whether a token is there.
    pub token: bool,
    /// Whether it may take the place of a configuration.
    pub replace: bool,
    /// Whose reset is wanted.
    pub reset: Option<&'a str>,
}

/// What becomes of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// There is none.
    None,
    /// It is kept for the daemon, and destroyed on the medium.
    Take,
    /// It is of no use, and destroyed on the medium.
    Destroy,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The offer is put in place.
    Apply(TokenUse),
    /// It is in place already, or was.
    Known(TokenUse),
    /// The next boot resets the gateway.
    Reset,
    /// Nothing is done.
    Refuse(Refusal),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The medium does not say that it replaces.
    #[error(
        "this gateway is configured already; to replace its configuration write replace = true into \
         provision.toml"
    )]
    Configured,
    /// It is another gateway's.
    #[error(
        "this gateway is {own}, and the medium is for {offered}; a gateway keeps its name for ever: \
         use the right medium, or reset the gateway first"
    )]
    Another {
        /// This one.
        own: String,
        /// The medium's.
        offered: String,
    },
    /// An earlier medium forbade it.
    #[error(
        "this gateway was told to take nothing from later media (later-media = \"refuse\"); only \
         somebody who is logged in can change it: tidegate appliance reset"
    )]
    Locked,
    /// A token without a configuration.
    #[error(
        "there is a token, and neither a configuration on the medium nor one on this gateway; put \
         provision.toml beside it"
    )]
    TokenAlone,
    /// A reset of a gateway that this one is not.
    #[error(
        "the reset is meant for {wanted:?}, and this gateway is {own}; write {own} into factory-reset"
    )]
    ResetOfAnother {
        /// Whose reset.
        wanted: String,
        /// This one.
        own: String,
    },
}

/// Decides.
#[must_use]
pub fn decide(machine: &Machine, wish: &Wish<'_>) -> Verdict {
    if let Some(wanted) = wish.reset {
        return reset(machine, wanted);
    }
    let token_of_a_known_one = || match (wish.token, machine.has_certificate) {
        (false, _) => TokenUse::None,
        (true, false) => TokenUse::Take,
        (true, true) => TokenUse::Destroy,
    };
    let Some((offered, digest)) = wish.configuration else {
        return match (&machine.configured, machine.later_media) {
            (None, _) => Verdict::Refuse(Refusal::TokenAlone),
            (Some(_), LaterMedia::Refuse) => Verdict::Refuse(Refusal::Locked),
            (Some(_), LaterMedia::Allow) => Verdict::Known(token_of_a_known_one()),
        };
    };
    let taken = if wish.token { TokenUse::Take } else { TokenUse::None };
    let Some(configured) = &machine.configured else { return Verdict::Apply(taken) };
    if configured.is_the_offered || machine.applied.iter().any(|known| known == digest) {
        return Verdict::Known(token_of_a_known_one());
    }
    match &configured.gateway {
        Some(own) if own != offered => {
            let (own, offered) = (own.clone(), offered.to_owned());
            Verdict::Refuse(Refusal::Another { own, offered })
        }
        _ if machine.later_media == LaterMedia::Refuse => Verdict::Refuse(Refusal::Locked),
        _ if !wish.replace => Verdict::Refuse(Refusal::Configured),
        _ => Verdict::Apply(taken),
    }
}

/// A gateway that nobody configured is as new: there is nothing to reset, and nothing to refuse.
fn reset(machine: &Machine, wanted: &str) -> Verdict {
    let Some(configured) = &machine.configured else { return Verdict::Known(TokenUse::None) };
    if machine.later_media == LaterMedia::Refuse {
        return Verdict::Refuse(Refusal::Locked);
    }
    match &configured.gateway {
        Some(own) if wanted != own && wanted != "any" => {
            let (wanted, own) = (wanted.to_owned(), own.clone());
            Verdict::Refuse(Refusal::ResetOfAnother { wanted, own })
        }
        _ => Verdict::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: Option<(&str, &str)> = Some(("P/g1", "d2"));

    fn configured() -> Machine {
        let gateway = Some("P/g1".to_owned());
        Machine {
            configured: Some(Configured { gateway, is_the_offered: false }),
            applied: vec!["d1".into()],
            ..Machine::default()
        }
    }

    fn wish(replace: bool) -> Wish<'static> {
        Wish { configuration: OFFERED, replace, token: true, reset: None }
    }

    #[test]
    fn a_new_gateway_takes_what_passed_the_check() {
        let new = Machine::default();
        assert_eq!(decide(&new, &wish(false)), Verdict::Apply(TokenUse::Take));
        let without = Wish { token: false, ..wish(false) };
        assert_eq!(decide(&new, &without), Verdict::Apply(TokenUse::None));
    }

    #[test]
    fn a_configured_one_takes_another_only_when_the_medium_says_so() {
        assert_eq!(decide(&configured(), &wish(false)), Verdict::Refuse(Refusal::Configured));
        assert_eq!(decide(&configured(), &wish(true)), Verdict::Apply(TokenUse::Take));
    }

    #[test]
    fn a_medium_for_the_gateway_beside_it_changes_nothing() {
        let other = Wish { configuration: Some(("P/g2", "d2")), ..wish(true) };
        let Verdict::Refuse(refusal) = decide(&configured(), &other) else { panic!() };
        assert_eq!(refusal, Refusal::Another { own: "P/g1".into(), offered: "P/g2".into() });
    }

    #[test]
    fn what_was_applied_once_does_not_undo_what_came_later() {
        let known = Wish { configuration: Some(("P/g1", "d1")), ..wish(true) };
        assert_eq!(decide(&configured(), &known), Verdict::Known(TokenUse::Take));
        let mut same = configured();
        same.configured = Some(Configured { gateway: None, is_the_offered: true });
        assert_eq!(decide(&same, &wish(false)), Verdict::Known(TokenUse::Take));
    }

    #[test]
    fn a_token_is_taken_where_a_certificate_is_missing_and_otherwise_only_destroyed() {
        let mut machine = configured();
        let alone = Wish { token: true, ..Wish::default() };
        assert_eq!(decide(&machine, &alone), Verdict::Known(TokenUse::Take));
        machine.has_certificate = true;
        assert_eq!(decide(&machine, &alone), Verdict::Known(TokenUse::Destroy));
        // With another configuration it may be another authority's.
        assert_eq!(decide(&machine, &wish(true)), Verdict::Apply(TokenUse::Take));
        let new = Machine::default();
        assert_eq!(decide(&new, &alone), Verdict::Refuse(Refusal::TokenAlone));
    }

    #[test]
    fn a_gateway_that_was_told_to_takes_nothing_more() {
        let locked = Machine { later_media: LaterMedia::Refuse, ..configured() };
        let alone = Wish { token: true, ..Wish::default() };
        let reset = Wish { reset: Some("any"), ..Wish::default() };
        for wish in [&wish(true), &alone, &reset] {
            assert_eq!(decide(&locked, wish), Verdict::Refuse(Refusal::Locked));
        }
        // It says so once; the medium that it came from is known.
        let known = Wish { configuration: Some(("P/g1", "d1")), token: false, ..wish(true) };
        assert_eq!(decide(&locked, &known), Verdict::Known(TokenUse::None));
    }

    #[test]
    fn a_reset_names_the_gateway_that_is_meant() {
        let reset = |wanted| Wish { reset: Some(wanted), ..Wish::default() };
        assert_eq!(decide(&configured(), &reset("P/g1")), Verdict::Reset);
        assert_eq!(decide(&configured(), &reset("any")), Verdict::Reset);
        let Verdict::Refuse(refusal) = decide(&configured(), &reset("P/g2")) else { panic!() };
        assert!(refusal.to_string().contains("write P/g1 into factory-reset"), "{refusal}");
        // As new: a stick that stays in the socket does not reset it for ever.
        assert_eq!(decide(&Machine::default(), &reset("any")), Verdict::Known(TokenUse::None));
    }
}
