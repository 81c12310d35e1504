//! Browsing in a session.
//!
//! # Invariants
//! - A browse ends, whatever the server answers.

use opcua::types::{
    BrowseDescription, BrowseNextRequest, BrowseRequest, BrowseResult, ByteString,
    ReferenceDescription, StatusCode, ViewDescription,
};

use super::limits::Limits;
use super::{Line, ServiceError, same_length, service};

/// Rounds in which one node's references are fetched: with ten per answer still 20,000.
const MAX_ROUNDS: usize = 2_000;
/// The most references that the nodes of one request may have together.
const MAX_REFERENCES: usize = 200_000;
/// Answers without a reference, but with a promise of more, that are believed.
const MAX_EMPTY_ROUNDS: usize = 2;

impl Line {
    /// Browses nodes to the end of their references. A node with too many, or with endless ones,
    /// gets those that were taken and the status `BadTooManyMatches`.
    pub(crate) async fn browse(
        &self,
        nodes: Vec<BrowseDescription>,
    ) -> Result<Vec<BrowseResult>, ServiceError> {
        let mut results = Vec::with_capacity(nodes.len());
        let mut rest = nodes.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(Limits::get(&self.limits.browse).min(rest.len()));
            let request = BrowseRequest {
                request_header: self.header(self.timeout),
                view: ViewDescription::default(),
                requested_max_references_per_node: 0,
                nodes_to_browse: Some(now.to_vec()),
            };
            match service!(self.channel, Browse, request, self.timeout) {
                Ok(answer) => {
                    let first = answer.results.unwrap_or_default();
                    let mut first = same_length("Browse", first, now.len())?;
                    self.browse_on(&mut first).await?;
                    results.append(&mut first);
                    rest = later;
                }
                Err(error) => Limits::shrink(&self.limits.browse, now.len(), error)?,
            }
        }
        Ok(results)
    }

    /// Fetches what browse results have promised.
    async fn browse_on(&self, results: &mut [BrowseResult]) -> Result<(), ServiceError> {
        let (mut rounds, mut empty) = (0, 0);
        loop {
            let taken: usize = (0..results.len()).map(|at| references(results, at)).sum();
            let mut open: Vec<(usize, ByteString)> = Vec::new();
            for (at, result) in results.iter_mut().enumerate() {
                if result.continuation_point.is_null_or_empty() {
                    continue;
                }
                let point = std::mem::take(&mut result.continuation_point);
                if taken >= MAX_REFERENCES || rounds >= MAX_ROUNDS || empty > MAX_EMPTY_ROUNDS {
                    result.status_code = StatusCode::BadTooManyMatches;
                    self.browse_next(vec![point], true).await?;
                } else {
                    open.push((at, point));
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            rounds += 1;
            let before: usize = open.iter().map(|(at, _)| references(results, *at)).sum();
            let points = open.iter().map(|(_, point)| point.clone()).collect();
            let more = self.browse_next(points, false).await?;
            for ((at, _), more) in open.iter().zip(more) {
                let Some(result) = results.get_mut(*at) else { continue };
                if more.status_code.is_bad() {
                    result.status_code = more.status_code;
                    continue;
                }
                let to = result.references.get_or_insert_default();
                to.extend(more.references.unwrap_or_default());
                result.continuation_point = more.continuation_point;
            }
            let after: usize = open.iter().map(|(at, _)| references(results, *at)).sum();
            empty = if after == before { empty + 1 } else { 0 };
        }
    }

    async fn browse_next(
        &self,
        points: Vec<ByteString>,
        release: bool,
    ) -> Result<Vec<BrowseResult>, ServiceError> {
        let count = points.len();
        let request = BrowseNextRequest {
            request_header: self.header(self.timeout),
            release_continuation_points: release,
            continuation_points: Some(points),
        };
        let answer = service!(self.channel, BrowseNext, request, self.timeout)?;
        if release {
            return Ok(Vec::new());
        }
        same_length("BrowseNext", answer.results.unwrap_or_default(), count)
    }
}

fn references(results: &[BrowseResult], at: usize) -> usize {
    let references: Option<&Vec<ReferenceDescription>> =
        results.get(at).and_then(|result| result.references.as_ref());
    references.map_or(0, Vec::len)
}
