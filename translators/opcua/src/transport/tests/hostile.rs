//! Responses that are made to take more than they are worth.

use std::sync::Arc;

use opcua::core::comms::chunker::Chunker;
use opcua::core::comms::message_chunk::{MessageChunk, MessageChunkType, MessageIsFinalType};
use opcua::core::comms::secure_channel::{Role, SecureChannel};
use opcua::core::{Message as _, ResponseMessage};
use opcua::crypto::CertificateStore;
use opcua::sync::RwLock;
use opcua::types::{
    BinaryEncodable as _, ContextOwned, DataChangeNotification, DataValue, DateTime,
    DecodingOptions, DepthGauge, ExtensionObject, MonitoredItemNotification, NamespaceMap,
    NotificationMessage, PublishResponse, ReadResponse, ResponseHeader, StatusCode, Variant,
};
use proptest::prelude::*;

use super::super::guard::STACK;
use super::super::{MAX_MESSAGE, decode, seal};
use crate::convert::RawBodies;

/// What a connection decodes with.
pub(super) fn context() -> Arc<RwLock<ContextOwned>> {
    let options = DecodingOptions {
        max_message_size: MAX_MESSAGE,
        max_string_length: MAX_MESSAGE,
        max_byte_string_length: MAX_MESSAGE,
        max_array_length: 1_000_000,
        decoding_depth_gauge: DepthGauge::new(32),
        ..DecodingOptions::default()
    };
    let mut context = ContextOwned::new_default(NamespaceMap::new(), options);
    context.loaders_mut().add_type_loader(RawBodies);
    Arc::new(RwLock::new(context))
}

/// A message as it goes over the wire.
pub(super) fn bytes(message: impl Into<ResponseMessage>) -> Vec<u8> {
    let message = message.into();
    let context = context();
    let context = context.read();
    let context = context.context();
    [message.type_id().encode_to_vec(&context), message.encode_to_vec(&context)].concat()
}

/// Decodes on a thread with the stack of the runtime's, and drops what came of it there.
fn decode(body: Vec<u8>) -> Result<(), (StatusCode, String)> {
    let decode = move || {
        decode::response(&body, &context())
            .map(drop)
            .map_err(|error| (error.status(), error.to_string()))
    };
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(decode).unwrap().join().unwrap()
}

/// The bytes of a read response up to the number of its results.
fn before_results() -> Vec<u8> {
    let mut whole = bytes(ReadResponse::default());
    // Results and diagnostics: two lengths.
    whole.truncate(whole.len() - 8);
    whole
}

/// A read response whose one value begins with these bytes.
fn with_value(value: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut whole = before_results();
    whole.extend(1_i32.to_le_bytes());
    whole.extend(value);
    whole
}

/// How deep pieces of a value may lie in each other until decoding ends with an error.
fn deepest(first: &[u8], piece: &[u8], end: &[u8]) -> usize {
    let fits = |levels: usize| {
        let value = [first, &piece.repeat(levels), end].concat();
        let body: Vec<u8> = with_value(value).into_iter().chain([0xFF; 4]).collect();
        decode(body).is_ok()
    };
    let (mut low, mut high) = (1, 100_000);
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

const VALUE: u8 = 0x01;
const DATA_VALUE: u8 = 23;
const VARIANT: u8 = 24;
const DIAGNOSTIC: u8 = 25;
const OBJECT: u8 = 22;
const ARRAY: u8 = 0x80;
const INNER: u8 = 0x40;

#[test]
fn a_million_diagnostics_in_each_other_are_an_error_not_an_overflow() {
    let nested = [VALUE, DIAGNOSTIC].into_iter().chain(vec![INNER; 1_000_000]);
    let (status, text) = decode(with_value(nested)).unwrap_err();
    assert_eq!(status, StatusCode::BadDecodingError);
    assert!(text.contains("too deeply"), "{text}");
    // Also in the header of the response.
    let mut header = bytes(ReadResponse::default());
    header.truncate(4 + 8 + 4 + 4);
    header.extend(vec![INNER; 1_000_000]);
    assert!(decode(header).unwrap_err().1.contains("too deeply"));
}

#[test]
fn values_of_values_are_an_error_not_an_overflow() {
    let value_in_value = [VALUE, DATA_VALUE].repeat(500_000);
    assert!(decode(with_value(value_in_value)).unwrap_err().1.contains("too deeply"));
    let one = 1_i32.to_le_bytes();
    let arrays = [vec![VALUE, DATA_VALUE | ARRAY], one.to_vec()].concat().repeat(200_000);
    assert!(decode(with_value(arrays)).unwrap_err().1.contains("too deeply"));
    // Claimed, but not there: each level promises as many elements as the message has bytes.
    let claim = 1_000_000_i32.to_le_bytes();
    let claims = [vec![VALUE, DATA_VALUE | ARRAY], claim.to_vec()].concat().repeat(200_000);
    assert!(decode(with_value(claims)).unwrap_err().1.contains("too deeply"));
    let variants = [vec![VALUE], [VARIANT].repeat(500_000)].concat();
    assert!(decode(with_value(variants)).is_err());
}

#[test]
fn structures_in_structures_are_an_error_not_an_overflow() {
    // A DataChangeTrigger has no structure in it; a HistoryData has values, so it nests:
    // structure, its values, a value, a structure.
    let level = |length: usize| {
        let history_data = [1, 0, 0x92, 0x02];
        let length = i32::try_from(length).unwrap().to_le_bytes();
        [&[VALUE, OBJECT], &history_data[..], &[1], &length, &1_i32.to_le_bytes()].concat()
    };
    let one = level(0).len();
    let nested: Vec<u8> = (0..20_000).flat_map(|at| level((20_000 - at) * one)).collect();
    assert!(decode(with_value(nested)).is_err());
    let raw = [vec![VALUE], [OBJECT, 0, 0, 1, 8, 0, 0, 0].repeat(50_000)].concat();
    assert!(decode(with_value(raw)).is_err());
}

#[test]
fn what_is_legal_is_far_from_the_bound() {
    // The gauge of the decoder ends variants and structures at 32 levels; values of values and
    // diagnostics have no such bound of their own.
    let values = deepest(&[VALUE], &[DATA_VALUE, VALUE], &[0]);
    println!("values of values: {values} levels, of {} bytes", STACK / values);
    assert!(values >= 64, "{values}");
    // What is decoded is also dropped, the deepest that there is.
    let diagnostics = deepest(&[VALUE, DIAGNOSTIC], &[INNER], &[0]);
    println!("diagnostics: {diagnostics} levels, of {} bytes", STACK / diagnostics);
}

#[test]
fn thirty_levels_of_variants_are_decoded() {
    let value = [vec![VALUE], vec![VARIANT; 30], vec![1, 1]].concat();
    let body = [with_value(value), vec![0xFF; 4]].concat();
    decode(body).unwrap();
}

#[test]
fn an_xml_body_that_claims_more_than_there_is_is_refused_before_it_is_allocated() {
    let claim = 0x7FFF_0000_i32.to_le_bytes();
    let ids: [&[u8]; 6] = [
        &[0, 7],
        &[1, 3, 7, 7],
        &[2, 3, 0, 7, 0, 0, 0],
        &[3, 3, 0, 4, 0, 0, 0, b't', b'y', b'p', b'e'],
        &[4, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        &[5, 3, 0, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for id in ids {
        let value = [&[VALUE, OBJECT], id, &[2], &claim, &[0; 100]].concat();
        let (_, text) = decode(with_value(value)).unwrap_err();
        assert!(text.contains("XML"), "{id:?}: {text}");
    }
}

#[test]
fn an_unknown_structure_that_claims_more_than_there_is_is_refused() {
    let claim = 0x7FFF_0000_i32.to_le_bytes();
    let value = [&[VALUE, OBJECT, 1, 3, 7, 7, 1][..], &claim, &[0; 100]].concat();
    let (_, text) = decode(with_value(value)).unwrap_err();
    assert!(text.contains("of a body of 2147418112"), "{text}");
}

#[test]
fn an_xml_body_that_is_there_is_taken() {
    let value = [&[VALUE, OBJECT, 1, 3, 7, 7, 2][..], &4_i32.to_le_bytes(), b"<a/>"].concat();
    decode([with_value(value), vec![0xFF; 4]].concat()).unwrap();
}

#[test]
fn a_bare_uncertain_status_is_no_xml_body() {
    let status = DataValue { status: Some(StatusCode::UncertainInitialValue), ..null() };
    for value in [
        Variant::Byte(0),
        Variant::Boolean(true),
        Variant::Int16(1),
        Variant::UInt16(2),
        Variant::Int32(0),
    ] {
        let value = DataValue { value: Some(value), ..null() };
        let results = Some(vec![null(), null(), value, status.clone(), status.clone()]);
        decode(bytes(ReadResponse { results, ..ReadResponse::default() })).unwrap();
    }
}

fn null() -> DataValue {
    DataValue::null()
}

#[test]
fn a_length_beyond_the_message_is_refused() {
    for kind in [12_u8, 15, 11 | ARRAY, 23 | ARRAY] {
        let value = [&[VALUE, kind][..], &900_000_i32.to_le_bytes(), &[0; 40]].concat();
        let (status, _) = decode(with_value(value)).unwrap_err();
        assert!(
            matches!(status, StatusCode::BadDecodingError | StatusCode::BadEncodingLimitsExceeded),
            "{status}"
        );
    }
}

#[test]
fn a_message_of_too_many_elements_is_refused() {
    let million = 1_000_000_i32.to_le_bytes();
    let booleans = [&[VALUE, 1 | ARRAY][..], &million, &[0; 1_000_000]].concat();
    let mut whole = before_results();
    whole.extend(3_i32.to_le_bytes());
    whole.extend(booleans.repeat(3));
    let (_, text) = decode(whole).unwrap_err();
    assert!(text.contains("too many elements"), "{text}");
}

#[test]
fn the_options_are_as_they_were_after_a_message() {
    let context = context();
    decode::response(&bytes(ReadResponse::default()), &context).unwrap();
    decode::response(&[0, 1], &context).unwrap_err();
    assert_eq!(context.read().options().max_array_length, 1_000_000);
    assert_eq!(context.read().options().max_string_length, MAX_MESSAGE);
}

proptest! {
    #[test]
    fn whatever_comes_as_a_response_is_decoded_or_an_error(
        kind in 300_u16..900,
        body in proptest::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let [low, high] = kind.to_le_bytes();
        let body = [&[1, 0, low, high], &body[..]].concat();
        let _ = decode::response(&body, &context());
    }

    #[test]
    fn a_broken_response_is_decoded_or_an_error(
        at in any::<prop::sample::Index>(),
        with in proptest::collection::vec(any::<u8>(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let value = DataValue { value: Some(Variant::from(vec![1_i32, 2, 3])), ..null() };
        let results = Some(vec![value; 5]);
        let response_header = ResponseHeader::null();
        let mut body = bytes(ReadResponse { response_header, results, diagnostic_infos: None });
        let at = at.index(body.len());
        for (to, from) in body.iter_mut().skip(at).zip(with) {
            *to = from;
        }
        body.truncate(cut.index(body.len()) + 1);
        let _ = decode::response(&body, &context());
    }
}

#[test]
fn an_empty_publish_response_is_decoded() {
    decode(bytes(PublishResponse::default())).unwrap();
}

/// What decoding costs beside the crate's own way, by the values of publish responses. Run by
/// hand, optimised.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_value_beside_the_crate() {
    const VALUES: u32 = 1_000;
    const ROUNDS: u32 = 2_000;
    let item = |client_handle: u32| MonitoredItemNotification {
        client_handle,
        value: DataValue {
            value: Some(Variant::from(f64::from(client_handle))),
            status: None,
            source_timestamp: Some(DateTime::now()),
            server_timestamp: Some(DateTime::now()),
            ..null()
        },
    };
    let changes = DataChangeNotification {
        monitored_items: Some((0..VALUES).map(item).collect()),
        diagnostic_infos: None,
    };
    let notification_message = NotificationMessage {
        notification_data: Some(vec![ExtensionObject::from_message(changes)]),
        ..NotificationMessage::default()
    };
    let response = PublishResponse { notification_message, ..PublishResponse::default() };
    let body = bytes(response);

    let context = context();
    let nowhere = std::path::Path::new("/dev/null/none");
    let store = Arc::new(RwLock::new(CertificateStore::new(nowhere)));
    let channel = SecureChannel::new(store, Role::Client, Arc::clone(&context));
    let kind = (MessageChunkType::Message, MessageIsFinalType::Final);
    let chunk = MessageChunk::new(1, 1, kind.0, kind.1, &channel, &body).unwrap();
    let time = |name: &str, work: &mut dyn FnMut()| {
        let begun = std::time::Instant::now();
        for _ in 0..ROUNDS {
            work();
        }
        let nanos = begun.elapsed().as_nanos() / u128::from(ROUNDS * VALUES);
        println!("{name}: {nanos} ns a value");
    };
    for _ in 0..3 {
        time("ours", &mut || {
            let chunk = seal::open(&channel, chunk.data.clone()).unwrap();
            std::hint::black_box(decode::response(&chunk.body, &context).unwrap());
        });
        time("the crate's", &mut || {
            let chunk = channel.verify_and_remove_security(chunk.data.clone()).unwrap();
            chunk.chunk_info(&channel).unwrap();
            Chunker::validate_chunks(&channel, std::slice::from_ref(&chunk)).unwrap();
            let chunks = std::slice::from_ref(&chunk);
            let response: ResponseMessage = Chunker::decode(chunks, &channel, None).unwrap();
            std::hint::black_box(response);
        });
    }
}
