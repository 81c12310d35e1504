//! Reading every tag once, for a person who waits for the answer.

use tidegate_translator::{Quality, Reason, Value};
use tokio::time::Instant;

use crate::blocks::{Blocks, Cause, Refusal, Step};
use crate::bus::Bus;
use crate::link::{ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, LinkError, Reply, Request, exception_word};
use crate::plan::Block;
use crate::poller::decode;
use crate::spec::{DeviceSpec, Transport};

/// Connections that may break before the rest is given up: enough to tell a tag that the device
/// cannot bear from a device that is gone.
const MAX_BROKEN: u32 = 3;

/// What became of one tag.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) value: Value,
    pub(crate) quality: Quality,
    pub(crate) error: Option<String>,
}

impl Outcome {
    const fn failed(reason: Reason, error: String) -> Self {
        Self { value: Value::None, quality: Quality::Bad(reason), error: Some(error) }
    }
}

/// Reads every tag once; the outcomes are in the order of the tags.
pub(crate) async fn read_once(bus: &Bus, spec: &DeviceSpec, mut blocks: Blocks) -> Vec<Outcome> {
    let not_tried = Outcome::failed(Reason::Unspecified, "not tried".to_owned());
    let mut outcomes = vec![not_tried; spec.tags.len()];
    let _poll = bus.poll();
    let mut broken = 0;
    let mut gone: Option<LinkError> = None;
    blocks.begin(Instant::now());
    while let Some(step) = blocks.next() {
        let block = match step {
            Step::Read(block) => block,
            // Nothing rests in a first cycle.
            Step::Resting(..) => continue,
        };
        let error = match &gone {
            Some(error) => Some((error.reason(), explain(spec, error))),
            None => match ask(bus, spec, &block).await {
                Ok(reply) => {
                    for span in blocks.spans(&block.spans) {
                        let Some(tag) = spec.tags.get(span.tag()) else { continue };
                        decode(tag, span, &block, &reply, |value, quality| {
                            if let Some(to) = outcomes.get_mut(span.tag()) {
                                *to = Outcome { value, quality, error: None };
                            }
                        });
                    }
                    blocks.answered();
                    continue;
                }
                Err(LinkError::Refused { code }) => {
                    let error = LinkError::Refused { code };
                    if let Refusal::Final(spans) = blocks.refused(code) {
                        let why = explain(spec, &error);
                        for span in blocks.spans(&spans) {
                            if let Some(to) = outcomes.get_mut(span.tag()) {
                                *to = Outcome::failed(error.reason(), why.clone());
                            }
                        }
                    }
                    continue;
                }
                Err(error) => {
                    let told = (error.reason(), explain(spec, &error));
                    broken += 1;
                    if error.is_of_link() || broken == MAX_BROKEN {
                        gone = Some(error);
                    }
                    Some(told)
                }
            },
        };
        if let Some((reason, why)) = error {
            for span in blocks.spans(&block.spans) {
                if let Some(to) = outcomes.get_mut(span.tag()) {
                    *to = Outcome::failed(reason, why.clone());
                }
            }
            blocks.skip(Cause::Poison(reason));
        }
    }
    outcomes
}

async fn ask(bus: &Bus, spec: &DeviceSpec, block: &Block) -> Result<Reply, LinkError> {
    let request = Request::Read { table: block.table, start: block.start, count: block.count };
    let mut turn = bus.turn().await.with_backoff(spec.backoff);
    turn.ask(spec.unit, request, spec.timeout).await
}

/// The error, and what a person can do about it.
fn explain(spec: &DeviceSpec, error: &LinkError) -> String {
    let way = &spec.link.transport;
    let line = error.line();
    let is_serial = matches!(way, Transport::Rtu(_));
    match error {
        // A serial port's own errors say what helps.
        LinkError::Down(_) if is_serial => line,
        LinkError::Down(_) => format!("{line}; check address {way} and the network in between"),
        LinkError::Silent { .. } | LinkError::Unsettled { .. } if is_serial => format!(
            "{line}; check the unit number, the wiring, timeout-ms, and the baud-rate, parity and \
             stop-bits of {way}"
        ),
        LinkError::Silent { .. } | LinkError::Unsettled { .. } => {
            format!("{line}; {way} accepts connections, check the unit number and timeout-ms")
        }
        LinkError::Closed { .. } if is_serial => {
            format!("{line}; is the adapter of {way} still plugged in?")
        }
        LinkError::Closed { .. } => {
            format!("{line}; {way} may allow too few connections or not this one")
        }
        LinkError::Malformed { .. } => {
            let protocol = match way {
                Transport::Tcp(_) | Transport::Tls(..) => "Modbus TCP",
                Transport::RtuOverTcp(_) | Transport::Rtu(_) => "Modbus RTU",
            };
            format!("{line}; {way} may not speak {protocol}")
        }
        LinkError::Refused { code } => {
            let remedy = match *code {
                ILLEGAL_FUNCTION => "the device does not have this table",
                ILLEGAL_ADDRESS => {
                    "the device does not have this address; does its manual count from 1?"
                }
                10 | 11 => "the gateway cannot reach the unit; check the unit number",
                _ => "the device is not able to answer at present",
            };
            format!("exception {code} ({}); {remedy}", exception_word(*code))
        }
    }
}
