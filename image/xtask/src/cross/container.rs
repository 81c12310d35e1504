//! What Cross.toml may say, as far as that can be known without a container engine.

#[cfg(test)]
mod tests {
    use crate::arch::Arch;

    const PINS: &str = include_str!("../../../../Cross.toml");

    #[test]
    fn every_image_of_a_foreign_architecture_is_pinned_by_its_digest() {
        let pins = toml_span::parse(PINS).unwrap();
        for arch in [Arch::Aarch64, Arch::Armv7] {
            let at = |key: &str| {
                let found = pins.pointer(&format!("/target/{}/{key}", arch.triple()));
                found.and_then(|value| value.as_str()).unwrap().to_owned()
            };
            let image = at("image");
            let (name, digest) = image.split_once("@sha256:").unwrap();
            assert!(name.ends_with(&format!("/{}", arch.triple())), "{image}");
            assert_eq!(digest.len(), 64, "{image}");
            assert!(digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{image}");
            assert_eq!(at("runner"), "qemu-user");
        }
    }

    #[test]
    fn the_time_of_the_build_goes_into_the_container() {
        let pins = toml_span::parse(PINS).unwrap();
        let passed = pins.pointer("/build/env/passthrough").and_then(|value| value.as_array());
        assert!(passed.unwrap().iter().any(|name| name.as_str() == Some("SOURCE_DATE_EPOCH")));
    }
}
