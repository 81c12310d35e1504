use std::sync::{Arc, Mutex};

use tidegate_journal::Epoch;
use tidegate_record::Catalog;
use tidegate_record::catalog::Definition;
use tidegate_translator::{Quality, Reason, Sample, TagId, TagPath, Value, ValueKind};

use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
}

fn catalog() -> (Catalog, TagId) {
    let mut catalog = Catalog::new();
    let defined = catalog.define(Definition {
        path: TagPath::new("P/t, \"x\"").unwrap(),
        kind: ValueKind::None,
        unit: Some("degC".into()),
        device: "d".into(),
        address: "a".into(),
        source: "s".into(),
    });
    (catalog, defined.unwrap().id())
}

/// One sample of every kind of value, and one whose tag nobody knows.
fn samples(tag: TagId) -> Vec<Sample> {
    let at = Timestamp(1_790_000_000_123_456_789);
    let values = [
        Value::F32(0.1),
        Value::F64(-2.5e300),
        Value::F64(f64::NAN),
        Value::F32(f32::NEG_INFINITY),
        Value::I64(-7),
        Value::I64(i64::MIN),
        Value::U64(u64::MAX),
        Value::Bool(true),
        Value::Text("a, \"b\"\n\u{1b}[2J".into()),
        Value::Bytes([0, 255].into()),
        Value::Json("[1,2]".into()),
    ];
    let mut samples: Vec<Sample> =
        values.into_iter().map(|value| Sample::good(tag, at, value)).collect();
    samples.push(Sample::bad(TagId(99), at, Reason::Timeout, 7));
    samples[0].source = Some(Timestamp(1_789_999_999_500_000_000));
    samples[1].quality = Quality::Uncertain(Reason::Timeout);
    samples
}

fn written(format: Format, by_json: bool) -> Shared {
    let out = Shared::default();
    let layout = Layout { gateway: true, ..Layout::of(Shape::Samples) };
    let mut sheet = Sheet::open(format, layout, Box::new(out.clone())).unwrap();
    let (catalog, tag) = catalog();
    for (seq, sample) in (7..).zip(samples(tag)) {
        let entry = catalog.resolve(sample.tag);
        let reading = Reading { epoch: Epoch([0xab; 16]), seq, entry, sample };
        if by_json {
            sheet.row(Some("P/g"), &reading.json_line()).unwrap();
        } else {
            sheet.sample(&"P/g".parse().unwrap(), &reading, None).unwrap();
        }
    }
    assert_eq!(sheet.finish().unwrap(), 12);
    out
}

#[test]
fn json_lines_say_the_same_from_samples_and_from_answers() {
    let lines = written(Format::Jsonl, false).text();
    assert_eq!(lines, written(Format::Jsonl, true).text());
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["gateway"], "P/g");
    assert_eq!(first["v"], 0.1);
    assert_eq!(lines.lines().count(), 12);
}

#[test]
fn csv_says_the_same_from_samples_and_from_answers() {
    let (typed, json) = (written(Format::Csv, false).text(), written(Format::Csv, true).text());
    assert_eq!(typed, json);
    let mut reader = csv::Reader::from_reader(typed.as_bytes());
    let head = reader.headers().unwrap().clone();
    let column = |name: &str| head.iter().position(|found| found == name).unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let values: Vec<_> = rows.iter().map(|row| &row[column("v")]).collect();
    let text = "a, \"b\"\n\u{1b}[2J";
    let numbers = ["0.1", "-2.5e300", "NaN", "-inf", "-7"];
    let whole = ["-9223372036854775808", "18446744073709551615"];
    let others = ["true", text, "AP8=", "[1,2]", ""];
    assert_eq!(values, [&numbers[..], &whole, &others].concat());
    assert_eq!(&rows[0][column("path")], "P/t, \"x\"");
    assert_eq!(&rows[0][column("ts")], "2026-09-21T14:13:19.5Z");
    assert_eq!(&rows[0][column("acquired")], "2026-09-21T14:13:20.123456789Z");
    assert_eq!(&rows[11][column("tag")], "99");
    assert_eq!(&rows[11][column("why")], "timeout");
}

#[test]
fn a_table_is_aligned_and_no_text_steers_the_terminal() {
    let table = written(Format::Table, false).text();
    assert_eq!(table, written(Format::Table, true).text());
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 13, "{table}");
    let at = lines[0].find("QUALITY").unwrap();
    assert!(lines.iter().skip(1).all(|line| line.is_char_boundary(at)));
    assert!(lines[2][at..].starts_with("uncertain (timeout)"), "{table}");
    assert!(!table.contains('\u{1b}'));
    assert!(table.contains("2026-09-21T14:13:19.500Z"));
}

#[test]
fn rows_of_an_unknown_kind_have_the_columns_of_the_first() {
    let out = Shared::default();
    let mut sheet =
        Sheet::open(Format::Csv, Layout::of(Shape::Any), Box::new(out.clone())).unwrap();
    sheet.row(None, r#"{"name":"press-1","state":{"up":true},"n":3}"#).unwrap();
    sheet.row(None, r#"{"n":4,"name":"a\u0062","later":1}"#).unwrap();
    sheet.finish().unwrap();
    assert_eq!(out.text(), "name,state,n\npress-1,\"{\"\"up\"\":true}\",3\nab,,4\n");
}

#[test]
fn what_is_no_object_is_refused_and_an_empty_sheet_is_one() {
    for format in [Format::Jsonl, Format::Csv, Format::Table] {
        let out = Shared::default();
        let layout = Layout { gateway: true, ..Layout::of(Shape::Buckets) };
        let mut sheet = Sheet::open(format, layout, Box::new(out.clone())).unwrap();
        assert!(matches!(sheet.row(Some("P/g"), "[1]"), Err(SheetError::Row { .. })));
        sheet.row(Some("P/g"), "{}").unwrap();
        assert_eq!(sheet.finish().unwrap(), 1);
        let sheet = Sheet::open(format, Layout::of(Shape::Any), Box::new(out)).unwrap();
        assert_eq!(sheet.finish().unwrap(), 0);
    }
}

#[test]
fn a_file_of_parquet_has_its_name_only_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let (output, mut out) = Output::open(Some(&path), Format::Parquet).unwrap();
    out.write_all(b"half").unwrap();
    drop(output);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let (output, _out) = Output::open(Some(&path), Format::Parquet).unwrap();
    output.finish().unwrap();
    assert!(path.exists());
}

#[cfg(feature = "analysis")]
mod columns {
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use ::parquet::record::Field;

    use super::*;

    fn rows(out: &Shared) -> Vec<Vec<(String, Field)>> {
        let reader = SerializedFileReader::new(bytes::Bytes::from(out.bytes())).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        let fields = |row: ::parquet::record::Row| {
            let columns = row.get_column_iter();
            columns.map(|(name, field)| (name.clone(), field.clone())).collect()
        };
        rows.map(|row| fields(row.unwrap())).collect()
    }

    #[test]
    fn parquet_has_each_value_in_the_column_of_its_type() {
        let rows = rows(&written(Format::Parquet, false));
        let found = |row: usize| -> Vec<String> {
            let values = rows[row].iter().filter(|(name, field)| {
                (name == "v" || name.starts_with("v_")) && *field != Field::Null
            });
            values.map(|(name, field)| format!("{name}={field}")).collect()
        };
        assert_eq!(found(0), ["v=0.1"]);
        assert!(matches!(rows[2].iter().find(|(name, _)| name == "v"),
            Some((_, Field::Double(v))) if v.is_nan()));
        assert_eq!(found(4), ["v=-7E0", "v_int=-7"]);
        assert_eq!(found(5), ["v_int=-9223372036854775808"]);
        assert_eq!(found(6), ["v_text=\"18446744073709551615\""]);
        assert_eq!(found(7), ["v_bool=true"]);
        assert!(found(8)[0].starts_with("v_text="));
        assert_eq!(found(9).len(), 1);
        assert_eq!(found(10), ["v_json=\"[1,2]\""]);
        assert!(found(11).is_empty());
        let seq = rows[3].iter().find(|(name, _)| name == "seq").unwrap();
        assert_eq!(seq.1, Field::ULong(10));
    }

    #[test]
    fn more_rows_than_a_group_holds_are_several_groups() {
        let out = Shared::default();
        let layout = Layout::of(Shape::Buckets);
        let mut sheet = Sheet::open(Format::Parquet, layout, Box::new(out.clone())).unwrap();
        for n in 0..140_000 {
            let row = format!(r#"{{"path":"P/t","from":"1970-01-01T00:00:00Z","count":{n}}}"#);
            sheet.row(None, &row).unwrap();
        }
        sheet.finish().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(out.bytes())).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        assert_eq!(reader.metadata().file_metadata().num_rows(), 140_000);
    }
}
