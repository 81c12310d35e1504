//! Devices that local applications feed, in full.

use tidegate_ingest::{DeviceSpec, Payload, WhenFull};

use super::{line, quoted, section, text};

pub(super) fn write_device(out: &mut String, spec: &DeviceSpec) {
    section(out, "[[device]]");
    text(out, "name", &spec.name);
    text(out, "protocol", "nats");
    let subjects: Vec<_> = spec.subjects.iter().map(|it| quoted(it)).collect();
    line(out, "subjects", &format!("[{}]", subjects.join(", ")));
    text(out, "base-path", spec.base_path.as_str());
    line(out, "skip-parts", &spec.skip_parts.to_string());
    if spec.payload == Payload::Bytes {
        text(out, "payload", "bytes");
    }
    if spec.split {
        line(out, "split", "true");
    }
    let fields = [
        ("id-field", &spec.id_field),
        ("time-field", &spec.time_field),
        ("value-field", &spec.value_field),
    ];
    for (key, field) in fields {
        if let Some(field) = field {
            text(out, key, field);
        }
    }
    text(out, "max-payload", &format!("{} B", spec.max_payload));
    line(out, "max-subjects", &spec.max_tags.to_string());
    line(out, "max-waiting", &spec.max_waiting.to_string());
    let when_full = match spec.when_full {
        WhenFull::Refuse => "refuse",
        WhenFull::Drop => "drop",
    };
    text(out, "when-full", when_full);
    line(out, "remember-ids", &spec.remember_ids.to_string());
    line(out, "remember-for-ms", &spec.remember_for.as_millis().to_string());
    line(out, "answer-within-ms", &spec.answer_within.as_millis().to_string());
}
