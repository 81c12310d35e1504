//! A configured OPC UA server.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_translator::{
    CancellationToken, Clock, Device, DeviceFuture, FreshDesk, Quality, Questions, ReadNow,
    Reading, ReadingFuture, Reason, Sink, TagId, Value, fresh_desk,
};

use crate::book::TagBook;
use crate::credentials::Credentials;
use crate::items::{Wanted, read_value};
use crate::line::Line;
use crate::prepare::{configured, prepare};
use crate::spec::DeviceSpec;
use crate::status::Status;
use crate::supervisor::Supervisor;

/// One OPC UA server, ready to be connected.
#[derive(Clone)]
pub struct OpcUaDevice {
    name: Arc<str>,
    spec: Arc<DeviceSpec>,
    ids: Arc<[TagId]>,
    clock: Arc<dyn Clock>,
    book: Arc<dyn TagBook>,
    credentials: Arc<dyn Credentials>,
    desk: FreshDesk,
    /// What is asked there until it runs.
    questions: Arc<Mutex<Option<Questions>>>,
}

impl OpcUaDevice {
    /// A server. `ids` are the catalog numbers of `spec.tags`, in their order.
    #[must_use]
    pub fn new(
        spec: Arc<DeviceSpec>,
        ids: Arc<[TagId]>,
        clock: Arc<dyn Clock>,
        book: Arc<dyn TagBook>,
        credentials: Arc<dyn Credentials>,
    ) -> Self {
        let (desk, questions) = fresh_desk();
        let (name, questions) = (spec.name.as_str().into(), Arc::new(Mutex::new(Some(questions))));
        Self { name, spec, ids, clock, book, credentials, desk, questions }
    }

    /// Reads every tag once, those below subtrees behind the configured ones, with the numbers that
    /// the book gave them.
    ///
    /// # Errors
    /// When the server could not be asked: a reason for all tags, and the cause in a sentence.
    pub async fn ask(&self) -> Result<Vec<Reading>, (Reason, String)> {
        let wanted = configured(&self.spec, &self.ids);
        let connected = Line::connect(&self.spec, &*self.credentials).await;
        let (line, mut wire) =
            connected.map_err(|error| (Reason::NotConnected, error.to_string()))?;
        let work = async {
            let read = self.read_with(&line, wanted).await;
            line.close().await;
            read
        };
        wire.serve(work).await.map_err(|error| (Reason::Unspecified, error.to_string()))
    }

    async fn read_all(self) -> Vec<Reading> {
        match self.ask().await {
            Ok(readings) => readings,
            Err((reason, why)) => configured(&self.spec, &self.ids)
                .iter()
                .map(|wanted| bad(wanted, reason, why.clone()))
                .collect(),
        }
    }

    async fn read_with(
        &self,
        line: &Line,
        wanted: Arc<[Wanted]>,
    ) -> Result<Vec<Reading>, crate::line::ServiceError> {
        let prepared = prepare(line, &self.spec, wanted, &*self.book).await?;
        let mut readings = Vec::with_capacity(prepared.wanted.len());
        let mut asked = Vec::new();
        let mut nodes = Vec::new();
        for (wanted, node) in prepared.wanted.iter().zip(&prepared.nodes) {
            let at = readings.len();
            let request = match node {
                Ok(node) => read_value(node.clone(), &wanted.item).map_err(|e| e.to_string()),
                Err(failure) => Err(failure.text.clone()),
            };
            match request {
                Ok(request) => {
                    readings.push(bad(wanted, Reason::Unspecified, "not read".to_owned()));
                    asked.push(at);
                    nodes.push(request);
                }
                Err(why) => readings.push(bad(wanted, Reason::Configuration, why)),
            }
        }
        let values = line.read(nodes, opcua::types::TimestampsToReturn::Both).await?;
        let now = self.clock.now();
        for (at, value) in asked.into_iter().zip(values) {
            let (Some(wanted), Some(meaning), Some(to)) =
                (prepared.wanted.get(at), prepared.meanings.get(at), readings.get_mut(at))
            else {
                continue;
            };
            let (sample, error) = match prepared.converter.sample(wanted.tag, meaning, value, now) {
                Ok(sample) => {
                    let is_bad = matches!(sample.quality, Quality::Bad(_));
                    let why = is_bad.then(|| Status(sample.status).to_string());
                    (sample, why)
                }
                Err(flawed) => {
                    let why = flawed.to_string();
                    (flawed.sample, Some(why))
                }
            };
            *to = Reading { tag: wanted.tag, value: sample.value, quality: sample.quality, error };
        }
        Ok(readings)
    }
}

fn bad(wanted: &Wanted, reason: Reason, why: String) -> Reading {
    let quality = Quality::Bad(reason);
    Reading { tag: wanted.tag, value: Value::None, quality, error: Some(why) }
}

impl Device for OpcUaDevice {
    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn fresh(&self) -> Option<Arc<dyn ReadNow>> {
        Some(Arc::new(self.desk.clone()))
    }

    fn run(self: Box<Self>, sink: Arc<dyn Sink>, stop: CancellationToken) -> DeviceFuture {
        let Self { spec, ids, clock, book, credentials, questions, .. } = *self;
        let questions = questions.lock().unwrap_or_else(PoisonError::into_inner).take();
        let questions = questions.unwrap_or_else(Questions::none);
        Box::pin(async move {
            let supervisor = Supervisor::new(spec, &ids, clock, book, credentials, sink, questions);
            supervisor.run(stop).await;
        })
    }

    fn read_once(&self) -> ReadingFuture {
        Box::pin(self.clone().read_all())
    }
}
