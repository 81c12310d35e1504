//! Every type in every order: written by `mbpoll` into a libmodbus server, read by the gateway,
//! and compared with what was meant.
//!
//! Where `mbpoll` knows a type and an order itself, it encodes; otherwise the registers are put
//! together here, byte by byte.

use serde_json::{Value, json};
use tidegate_hil_tests::field::{Devices, Field, Site, base_path};
use tidegate_hil_tests::peers::{Peer, mbpoll_writes};

use super::BACK;
use crate::CATCH_UP;

const ORDERS: [&str; 4] = ["abcd", "cdab", "badc", "dcba"];

/// The registers of a value whose bytes are given from the most significant one on.
fn registers(bytes: &[u8], order: &str) -> Vec<u16> {
    let mut words: Vec<_> =
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    if ["cdab", "dcba"].contains(&order) {
        words.reverse();
    }
    if ["badc", "dcba"].contains(&order) {
        words.iter_mut().for_each(|word| *word = word.swap_bytes());
    }
    words
}

/// A whole number as JSON holds it: beyond 2^53 as text.
fn whole(number: i128) -> Value {
    if number.unsigned_abs() > 1 << 53 {
        return json!(number.to_string());
    }
    i64::try_from(number).map_or(Value::Null, Value::from)
}

/// Type, bytes from the most significant one on, and what it means.
fn meant() -> Vec<(&'static str, Vec<u8>, Value)> {
    let mut meant = Vec::new();
    for value in [0, 1, 0x1234, u16::MAX] {
        meant.push(("uint16", value.to_be_bytes().to_vec(), whole(value.into())));
    }
    for value in [-1, i16::MIN, 0x0102] {
        meant.push(("int16", value.to_be_bytes().to_vec(), whole(value.into())));
    }
    for value in [0x0102_0304, u32::MAX] {
        meant.push(("uint32", value.to_be_bytes().to_vec(), whole(value.into())));
    }
    for value in [-2, i32::MIN, 0x1122_3344] {
        meant.push(("int32", value.to_be_bytes().to_vec(), whole(value.into())));
    }
    for value in [0x0102_0304_0506_0708, u64::MAX, 1 << 53] {
        meant.push(("uint64", value.to_be_bytes().to_vec(), whole(value.into())));
    }
    for value in [-3, i64::MIN, 0x1122_3344_5566_7788] {
        meant.push(("int64", value.to_be_bytes().to_vec(), whole(value.into())));
    }
    for text in ["0.0", "-72.25", "1e-45", "3.4028235e38", "0.1"] {
        let value: f32 = text.parse().unwrap();
        meant.push(("float32", value.to_be_bytes().to_vec(), serde_json::from_str(text).unwrap()));
    }
    for text in ["-0.125", "2.2250738585072014e-308", "1.7976931348623157e308", "0.1"] {
        let value: f64 = text.parse().unwrap();
        meant.push(("float64", value.to_be_bytes().to_vec(), serde_json::from_str(text).unwrap()));
    }
    meant.push(("bcd16", vec![0x12, 0x34], json!(1234)));
    meant.push(("bcd16", vec![0x99, 0x99], json!(9999)));
    meant.push(("bcd32", vec![0x12, 0x34, 0x56, 0x78], json!(12_345_678)));
    let digits = vec![0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56];
    meant.push(("bcd64", digits, json!(1_234_567_890_123_456_u64)));
    meant
}

/// Writes registers one by one, as decimal numbers.
fn write(site: &Site, peer: &Peer, address: u16, registers: &[u16]) {
    let values: Vec<_> = registers.iter().map(u16::to_string).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    for (part, values) in (0..).zip(values.chunks(100)) {
        let address = address + part * 100;
        mbpoll_writes(site, peer.address().unwrap(), &["-t", "4"], address, values).unwrap();
    }
}

/// Tags that lie one behind the other in the server's registers, and what each must be.
#[derive(Default)]
struct Vectors {
    text: String,
    names: Vec<String>,
    expected: Vec<(String, Value)>,
    next: u16,
}

impl Vectors {
    /// A tag at the next address, which it returns.
    fn tag(&mut self, kind: &str, order: &str, registers: usize, keys: &str, value: Value) -> u16 {
        let (name, address) = (format!("v{}-{kind}-{order}", self.names.len()), self.next);
        self.text.push_str(&format!(
            "\n[[device.tag]]\npath = \"{name}\"\naddress = \"holding:{address}\"\n\
             type = \"{kind}\"\norder = \"{order}\"\n{keys}\n"
        ));
        self.expected.push((format!("{}/{name}", base_path("press")), value));
        self.names.push(name);
        self.next += u16::try_from(registers).unwrap();
        address
    }

    /// Reads all of them.
    async fn are_read(self, site: Site, peer: &Peer) {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        let way = peer.place().way("modbus-tcp");
        let devices = Devices::none().with_text("press", &way, "", &names, &self.text);
        let mut field = Field::running(site, &devices).await.unwrap();
        let expected =
            self.expected.iter().map(|(path, value)| (path.clone(), value.clone().into()));
        field.exceptions.extend(expected);
        field.all_good(BACK).await.unwrap();
        let judgement = field.judge(CATCH_UP).await.unwrap();
        for (path, expected) in &self.expected {
            assert!(judgement.good(path) > 0, "{path} is never good; meant is {expected}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_in_every_order_means_what_was_written() {
    let site = Site::new().unwrap();
    let peer = Peer::libmodbus_tcp(&site, "libmodbus").await.unwrap();
    let mut vectors = Vectors { next: 1000, ..Vectors::default() };
    let mut written = Vec::new();
    for (kind, bytes, value) in meant() {
        for order in ORDERS {
            vectors.tag(kind, order, bytes.len() / 2, "", value.clone());
            written.extend(registers(&bytes, order));
        }
    }
    assert_eq!(usize::from(vectors.next), 1000 + written.len());
    write(&site, &peer, 1000, &written);
    vectors.are_read(site, &peer).await;
}

/// What `mbpoll` encodes by itself: with `-B` the high word travels first, without it the low one.
#[tokio::test(flavor = "multi_thread")]
async fn what_mbpoll_encodes_itself_is_read_back() {
    let site = Site::new().unwrap();
    let peer = Peer::libmodbus_tcp(&site, "libmodbus").await.unwrap();
    let mut vectors = Vectors { next: 100, ..Vectors::default() };
    let server = peer.address().unwrap();
    for (order, flags) in [("abcd", &["-B"][..]), ("cdab", &[])] {
        for value in ["-2", "305419896", "-2147483648", "2147483647"] {
            let meant = serde_json::from_str(value).unwrap();
            let at = vectors.tag("int32", order, 2, "", meant);
            let options = [&["-t", "4:int"], flags].concat();
            mbpoll_writes(&site, server, &options, at, &[value]).unwrap();
        }
        for value in ["-72.25", "0.1", "123456.0"] {
            let meant = serde_json::from_str(value).unwrap();
            let at = vectors.tag("float32", order, 2, "", meant);
            let options = [&["-t", "4:float"], flags].concat();
            mbpoll_writes(&site, server, &options, at, &[value]).unwrap();
        }
    }
    for value in ["0", "65535", "4660"] {
        let meant = serde_json::from_str(value).unwrap();
        let at = vectors.tag("uint16", "abcd", 1, "", meant);
        mbpoll_writes(&site, server, &["-t", "4"], at, &[value]).unwrap();
    }
    vectors.are_read(site, &peer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_states_and_bits_mean_what_was_written() {
    let site = Site::new().unwrap();
    let peer = Peer::libmodbus_tcp(&site, "libmodbus").await.unwrap();
    let mut vectors = Vectors { next: 100, ..Vectors::default() };
    let mut written = Vec::new();
    for order in ["abcd", "badc"] {
        for (text, meant) in [
            (&b"Batch 4711-A\0\0"[..], "Batch 4711-A"),
            (b"padded      ", "padded"),
            (b"odd", "odd"),
            ("Größe 7\0".as_bytes(), "Größe 7"),
        ] {
            let mut bytes = text.to_vec();
            bytes.resize(text.len().next_multiple_of(2), 0);
            let keys = format!("length = {}", text.len());
            vectors.tag("text", order, bytes.len() / 2, &keys, json!(meant));
            // A text has no words that could be swapped, only bytes.
            written.extend(registers(&bytes, order));
        }
    }
    let states = "states = \"0=stopped, 1=running, 2=fault\"";
    for (raw, name) in [(0, "stopped"), (1, "running"), (2, "fault")] {
        vectors.tag("uint16", "abcd", 1, states, json!(name));
        written.push(raw);
    }
    write(&site, &peer, 100, &written);
    vectors.are_read(site, &peer).await;
}
