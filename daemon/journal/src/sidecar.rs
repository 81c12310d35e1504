//! A file beside each sealed segment, made by whoever reads the record: what the segment holds in
//! short. What stands in it is the maker's affair.
//!
//! # Invariants
//! - It is derived, so it costs no frame: nothing of it happens on the writer's way to a commit, it
//!   is written without a sync, and it is not written when it would not fit the journal's limits.
//! - It is bound to one segment: plant, gateway, epoch, number, and the chain at both ends. What
//!   does not fit, or fails a checksum, is no sidecar.
//! - It goes with its segment. A segment's number is never given twice, so a sidecar that outlives
//!   its segment is known as such, and the next opening removes it.
//! - The lock of the list is never held during I/O.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::SegmentSpan;
use crate::error::{SidecarError, StorageError};
use crate::log::{Segment, Shared};
use crate::segment::{
    BLOCK, BLOCK_OFFSET, SegmentHeader, Tail, align, open_block, sealed_block, sidecar_name,
};
use crate::storage::{Storage, StoredFile, read_up_to};

const MAGIC: [u8; 4] = *b"TGSX";
/// The largest content that is believed: what the largest segment could have at one in eight.
const MAX_CONTENT_BYTES: u64 = 8 << 20;

/// What the first block of a sidecar says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SidecarHeader {
    segment: SegmentHeader,
    /// Where the segment's chain ends.
    end: Tail,
    /// Bytes of content.
    content: u64,
    /// CRC-32C of the list of checksums that stands behind this block.
    sums: u32,
}

/// The sidecars that are there, and what may be done with them.
#[derive(Default)]
pub(crate) struct Sidecars {
    list: Mutex<List>,
    /// Bytes of all of them, for the writer.
    bytes: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct List {
    storage: Option<Arc<dyn Storage>>,
    /// What a writer allows; `None` where the directory is only looked at.
    limits: Option<Limits>,
    /// Bytes by the segment's number.
    files: BTreeMap<u64, u64>,
}

/// What a sidecar must leave alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub sidecar_bytes: u64,
    pub segment_bytes: u64,
    pub max_bytes: u64,
    pub headroom: u64,
}

impl Sidecars {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was found in a directory.
    pub(crate) fn begin(
        &self,
        storage: &Arc<dyn Storage>,
        limits: Option<Limits>,
        found: impl IntoIterator<Item = (u64, u64)>,
    ) {
        let files: BTreeMap<u64, u64> = found.into_iter().collect();
        self.bytes.store(files.values().sum(), Ordering::Relaxed);
        *self.list() = List { storage: Some(Arc::clone(storage)), limits, files };
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> u64 {
        self.list().files.len() as u64
    }

    /// The most bytes that one may have; 0 when none may be written.
    pub(crate) fn limit(&self) -> u64 {
        self.list().limits.map_or(0, |limits| limits.sidecar_bytes)
    }

    /// Sidecars that could not be written, or were found damaged.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Room that the next sidecar will want: as much as the largest that is there.
    pub(crate) fn expected(&self) -> u64 {
        let list = self.list();
        let most = list.limits.map_or(0, |limits| limits.sidecar_bytes);
        list.files.values().max().map_or(most, |largest| most.min(*largest))
    }

    fn put(&self, number: u64, bytes: u64) {
        let before = self.list().files.insert(number, bytes).unwrap_or(0);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    fn take(&self, number: u64) -> bool {
        let bytes = self.list().files.remove(&number);
        self.bytes.fetch_sub(bytes.unwrap_or(0), Ordering::Relaxed);
        bytes.is_some()
    }

    /// Removes the sidecar of a segment that goes, or that is worth nothing.
    pub(crate) fn remove(&self, storage: &dyn Storage, number: u64) {
        // Only room is at stake: the next opening removes what stays.
        if self.take(number) && storage.remove(&sidecar_name(number)).is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a sidecar as damaged, and removes it where that is allowed.
    pub(crate) fn discard(&self, number: u64) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let storage = {
            let list = self.list();
            list.storage.clone().filter(|_| list.limits.is_some())
        };
        match storage {
            Some(storage) => self.remove(&*storage, number),
            None => {
                self.take(number);
            }
        }
    }

    /// Notes which segments have one.
    pub(crate) fn mark(&self, spans: &mut [SegmentSpan]) {
        let list = self.list();
        spans.iter_mut().for_each(|span| span.sidecar = list.files.contains_key(&span.number));
    }

    /// Opens a segment's sidecar; `None` when there is none that fits it.
    pub(crate) fn open(
        &self,
        segment: &Segment,
        end: Tail,
        meter: &Arc<AtomicU64>,
    ) -> Option<Sidecar> {
        let number = segment.header.number;
        let storage = {
            let list = self.list();
            list.files.get(&number)?;
            Arc::clone(list.storage.as_ref()?)
        };
        let name = sidecar_name(number);
        let file = storage.open(&name).ok()?;
        match Sidecar::check(file, segment, end, meter) {
            Ok(sidecar) => Some(sidecar),
            // A device that refuses says nothing of what is in it.
            Err(Some(_)) => None,
            Err(None) => {
                self.discard(number);
                None
            }
        }
    }
}

impl Shared {
    /// Writes the sidecar of a sealed segment.
    pub(crate) fn keep_sidecar(
        &self,
        segment: &Segment,
        end: Tail,
        content: &[u8],
    ) -> Result<(), SidecarError> {
        let kept = self.write_sidecar(segment, end, content);
        if matches!(kept, Err(SidecarError::Storage(_))) {
            self.sidecars.failures.fetch_add(1, Ordering::Relaxed);
        }
        kept
    }

    fn write_sidecar(
        &self,
        segment: &Segment,
        end: Tail,
        content: &[u8],
    ) -> Result<(), SidecarError> {
        let number = segment.header.number;
        let (storage, limits) = {
            let list = self.sidecars.list();
            match (&list.storage, list.limits) {
                (Some(storage), Some(limits)) => (Arc::clone(storage), limits),
                _ => return Err(SidecarError::ReadOnly),
            }
        };
        let too_large =
            || SidecarError::TooLarge { length: content.len(), limit: limits.sidecar_bytes };
        let (head, rest) = parts_of(segment, end, content).ok_or_else(too_large)?;
        let bytes = BLOCK_OFFSET + rest.len() as u64;
        if bytes > limits.sidecar_bytes {
            return Err(too_large());
        }
        let name = sidecar_name(number);
        let failed = |action| {
            let (object, place) = (name.clone(), self.place.clone());
            move |source| StorageError { action, object, place, source }
        };
        // Of the spare nothing is known here; there may be one.
        let used = self.log().bytes() + limits.segment_bytes + self.sidecars.bytes();
        let free = storage.free_bytes().map_err(failed("measure"))?;
        if used + bytes > limits.max_bytes || free < bytes.saturating_add(limits.headroom) {
            return Err(SidecarError::NoRoom { bytes });
        }
        // A file of that name is read by others perhaps; it goes on without a name.
        self.sidecars.remove(&*storage, number);
        let file = storage.create(&name, bytes).map_err(failed("create"))?;
        // The header last: without it the rest counts for nothing.
        let written = file.write_at(&rest, BLOCK_OFFSET).and_then(|()| file.write_at(&head, 0));
        if let Err(source) = written {
            let _ = storage.remove(&name);
            return Err(failed("write")(source).into());
        }
        self.sidecars.put(number, bytes);
        // The writer takes a segment out of the log first and its sidecar away then; whichever of
        // the two comes second finds what the other did.
        if !self.log().segments.iter().any(|it| it.header.number == number) {
            self.sidecars.remove(&*storage, number);
        }
        Ok(())
    }
}

/// The header, and what stands behind it: a checksum for each block of the content, and the content.
fn parts_of(segment: &Segment, end: Tail, content: &[u8]) -> Option<([u8; BLOCK], Vec<u8>)> {
    let sums = content.chunks(BLOCK).flat_map(|block| crc32c::crc32c(block).to_le_bytes());
    let mut rest: Vec<u8> = sums.collect();
    let header = SidecarHeader {
        segment: segment.header.clone(),
        end,
        content: content.len() as u64,
        sums: crc32c::crc32c(&rest),
    };
    rest.extend_from_slice(content);
    let head = sealed_block(MAGIC, &postcard::to_stdvec(&header).ok()?)?;
    (header.content <= MAX_CONTENT_BYTES).then_some((head, rest))
}

/// A segment's sidecar, open for reading.
pub struct Sidecar {
    file: Arc<dyn StoredFile>,
    sums: Vec<u32>,
    /// Where the content begins in the file, and its length.
    content: (u64, u64),
    meter: Arc<AtomicU64>,
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sidecar").field("content", &self.content).finish_non_exhaustive()
    }
}

impl Sidecar {
    /// `Err(None)` when it is not this segment's, or damaged.
    fn check(
        file: Arc<dyn StoredFile>,
        segment: &Segment,
        end: Tail,
        meter: &Arc<AtomicU64>,
    ) -> Result<Self, Option<std::io::Error>> {
        let read = |offset, bytes| {
            meter.fetch_add(bytes as u64, Ordering::Relaxed);
            read_up_to(&*file, offset, bytes).map_err(Some)
        };
        let header: SidecarHeader =
            open_block(MAGIC, &read(0, BLOCK)?).map_err(|_| None::<std::io::Error>)?;
        if header.segment != segment.header
            || header.end != end
            || header.content > MAX_CONTENT_BYTES
        {
            return Err(None);
        }
        let blocks = usize::try_from(header.content.div_ceil(BLOCK_OFFSET)).map_err(|_| None)?;
        let sums = read(BLOCK_OFFSET, 4 * blocks)?;
        if sums.len() != 4 * blocks || crc32c::crc32c(&sums) != header.sums {
            return Err(None);
        }
        let begins = BLOCK_OFFSET + sums.len() as u64;
        let sums = sums.chunks_exact(4).filter_map(|it| it.try_into().ok());
        let sums = sums.map(u32::from_le_bytes).collect();
        let meter = Arc::clone(meter);
        Ok(Self { file, sums, content: (begins, header.content), meter })
    }

    /// How long its content is, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.content.1
    }

    /// A piece of the content; `None` when it cannot be read, is damaged or is not all there.
    /// Whole blocks of 4096 bytes are read.
    #[must_use]
    pub fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let (begins, total) = self.content;
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        if end > total {
            return None;
        }
        let first = offset / BLOCK_OFFSET;
        let from = first * BLOCK_OFFSET;
        let until = align(end).min(total);
        let wanted = usize::try_from(until.saturating_sub(from)).ok()?;
        self.meter.fetch_add(wanted as u64, Ordering::Relaxed);
        let bytes = read_up_to(&*self.file, begins + from, wanted).ok()?;
        let sums = self.sums.get(usize::try_from(first).ok()?..)?;
        let mut blocks = bytes.chunks(BLOCK).zip(sums);
        if bytes.len() != wanted || blocks.any(|(block, sum)| crc32c::crc32c(block) != *sum) {
            return None;
        }
        let skip = usize::try_from(offset - from).ok()?;
        bytes.get(skip..skip + length).map(<[u8]>::to_vec)
    }
}
