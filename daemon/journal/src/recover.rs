//! Opening a directory, whatever it holds.
//!
//! # Invariants
//! - Looking comes first and changes nothing: a foreign journal, a newer format, a lock or a
//!   refusal leaves everything as it was.
//! - Of a sound journal only the headers and the last segment are read.
//! - What a later commit, a later segment or the cursor proves to have been durable is never cut:
//!   it becomes a hole with a bridge. Only the end that nothing vouches for is a torn tail.

use std::io;
use std::sync::Arc;

use crate::cursor::Record;
use crate::epoch::content;
use crate::error::{OpenError, StorageError};
use crate::frame;
use crate::journal::{Journal, Pending, Spare};
use crate::log::Shared;
use crate::reader::Reader;
use crate::report::Stats;
use crate::scan::LastCommit;
use crate::segment::{MARK_BYTES, Mark, Tail, align, sidecar_name};
use crate::storage::{Storage, read_up_to};
use crate::survey::{Survey, survey};
use crate::{Epoch, EpochReason, FrameHash, LossRecord, Position, Predecessor, Settings, Stamp};

/// Unreadable files that are set aside for a person to look at; older ones are removed.
const KEPT_UNREADABLE: usize = 2;

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Why a new epoch began, when one did.
    pub began: Option<EpochReason>,
    /// The end of what was durable before, when there was anything.
    pub last: Option<(Epoch, Position)>,
    /// The stamp of the last frame with samples: since its end nothing was recorded.
    pub last_samples: Option<Stamp>,
    /// Frames of the last commit that were cut because nothing proves that it was complete.
    pub cut_frames: u64,
    /// Holes found while opening, each with its bridge: epoch, first and last frame.
    pub damaged: Vec<(Epoch, u64, u64)>,
    /// Files in the directory that are not the journal's, or could not be read at all.
    pub strangers: Vec<String>,
}

/// Opens a directory for reading only: nothing is repaired and no lock is taken, so a writer may
/// be at work; what it commits later is not seen.
///
/// # Errors
/// See [`OpenError`].
pub fn inspect(storage: &Arc<dyn Storage>) -> Result<(Reader, Recovery), OpenError> {
    let mut survey = survey(storage, None, false)?;
    let mut recovery = survey.report();
    let holes = std::mem::take(&mut survey.holes);
    let sidecars = std::mem::take(&mut survey.sidecars);
    let shared = Shared::new(storage.place(), survey.take_log());
    shared.sidecars.begin(storage, None, sidecars);
    for hole in &holes {
        shared.add_hole(*hole, false);
    }
    recovery.strangers.sort_unstable();
    Ok((Reader::new(Arc::new(shared)), recovery))
}

pub(crate) fn open(
    storage: Arc<dyn Storage>,
    settings: Settings,
    stamp: Stamp,
    shared: Option<Arc<Shared>>,
) -> Result<(Journal, Recovery), OpenError> {
    settings.check()?;
    let place = storage.place();
    let lock = storage.lock().map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { place: place.clone() },
        io::ErrorKind::PermissionDenied => OpenError::Denied { place: place.clone(), source },
        _ => StorageError { action: "lock", object: "lock".into(), place: place.clone(), source }
            .into(),
    })?;
    open_locked(storage, settings, stamp, lock, shared)
}

/// Opens under a lock that is held; `shared` is what readers of an earlier opening hold.
pub(crate) fn open_locked(
    storage: Arc<dyn Storage>,
    settings: Settings,
    stamp: Stamp,
    lock: Box<dyn Send + Sync>,
    shared: Option<Arc<Shared>>,
) -> Result<(Journal, Recovery), OpenError> {
    let mut survey = survey(&storage, Some((&settings.plant, &settings.gateway)), true)?;
    let mut recovery = survey.report();
    // Names too: what a process that died renamed may not be durable yet.
    sync_names(&*storage)?;
    let lost = survey.is_lost();
    let known = survey.last_known();
    let distrusted = survey.distrusted;
    if let Some(commit) = survey.rewrite.take()
        && !distrusted
    {
        survey.rewrite_last(&storage, &commit)?;
    }
    survey.set_aside_unreadable(&*storage)?;
    let spare = survey.adopt_spare(&*storage, settings.segment_bytes);
    let holes = std::mem::take(&mut survey.holes);
    let cursor = survey.cursor.take();
    let (next_segment, cursor_there) = (survey.next_segment, cursor.is_some());
    let log = survey.take_log();
    let mut sidecars = std::mem::take(&mut survey.sidecars);
    sidecars.retain(|(number, _)| {
        let is_kept = log.segments.iter().any(|segment| segment.header.number == *number);
        if !is_kept {
            // Only room is at stake.
            let _ = storage.remove(&sidecar_name(*number));
        }
        is_kept
    });
    let tail = log.tail;
    let epoch = log.epoch();
    let oldest = log.segments.first().map(|it| it.header.epoch);
    let shared = match shared {
        Some(shared) => {
            shared.forget_indexes();
            *shared.log_mut() = log;
            shared
        }
        None => Arc::new(Shared::new(storage.place(), log)),
    };
    shared.sidecars.begin(&storage, Some(settings.sidecar_limits()), sidecars);
    let nothing = Epoch([0; 16]);
    let cursor = cursor.unwrap_or_else(|| Record {
        generation: 0,
        plant: settings.plant.clone(),
        gateway: settings.gateway.clone(),
        epoch: oldest.unwrap_or(nothing),
        acknowledged: None,
        accounted: 0,
        tail: (epoch.unwrap_or(nothing), tail),
        destination: Vec::new(),
        carry: None,
        bridged: Vec::new(),
        dropped: None,
    });
    for hole in &holes {
        let remembered = (hole.epoch, hole.before.frame, hole.after.frame);
        shared.add_hole(*hole, cursor.bridged.contains(&remembered));
    }
    let mut journal = Journal {
        storage,
        settings,
        shared,
        open_files: survey.open_files,
        lock,
        epoch: epoch.unwrap_or(nothing),
        next: tail,
        durable: tail,
        pending: Pending::default(),
        spare,
        must_roll: epoch.is_none() || distrusted,
        needs_reopen: false,
        next_segment,
        cursor_file: survey.cursor_file,
        cursor,
        unsaved_acks: 0,
        commits_since_save: 0,
        stamp,
        stats: Stats::default(),
        events: Vec::new(),
        carried: None,
        told_unreadable: false,
    };
    let began = match (epoch, lost) {
        (_, true) => Some(EpochReason::JournalLost),
        (None, false) => Some(EpochReason::FirstStart),
        (Some(_), false) => None,
    };
    if let Some(reason) = began {
        let (epoch, last) = known;
        let predecessor = Predecessor { reason, epoch, last, carried_frames: 0 };
        journal.begin_epoch(predecessor).map_err(OpenError::Begin)?;
        recovery.began = began;
    }
    journal.point_cursor_into_log();
    if began.is_some() || !cursor_there {
        journal.save_cursor()?;
    }
    journal.settle_carry().map_err(OpenError::Begin)?;
    // A full or failing disk must not keep the record from being read and delivered: what cannot
    // be named now is named by the first commit that succeeds.
    if let Err(error) = journal.prepare_spare() {
        journal.event(crate::Event::NoSpare { why: error.to_string() });
    }
    if let Err(error) = journal.commit() {
        journal.event(crate::Event::NoSpare { why: error.to_string() });
    }
    Ok((journal, recovery))
}

impl Survey {
    /// Writes the frames of a torn commit that are whole as a commit of their own.
    fn rewrite_last(
        &self,
        storage: &Arc<dyn Storage>,
        commit: &LastCommit,
    ) -> Result<(), OpenError> {
        let (Some(last), Some(findings)) = (self.segments.last(), &self.findings) else {
            return Ok(());
        };
        let failed = |source| StorageError {
            action: "repair",
            object: last.name.clone(),
            place: storage.place(),
            source,
        };
        let frames: Vec<_> =
            findings.runs.iter().filter(|run| run.first >= commit.mark.start.frame).collect();
        let bytes: u64 = frames.iter().map(|run| run.bytes).sum();
        let count: u64 = frames.iter().map(|run| run.frames).sum();
        let used = MARK_BYTES as u64 + bytes;
        let room = usize::try_from(align(used)).unwrap_or(MARK_BYTES);
        let mut block = read_up_to(&*last.file, commit.offset, room).map_err(failed)?;
        block.resize(room, 0);
        let mark = Mark {
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            frames: u32::try_from(count).unwrap_or(u32::MAX),
            ..commit.mark
        };
        block[..MARK_BYTES].copy_from_slice(&mark.encode());
        if let Some(padding) = block.get_mut(usize::try_from(used).unwrap_or(room)..) {
            padding.fill(0);
        }
        last.file.write_at(&block, commit.offset).map_err(failed)?;
        last.file.sync_data().map_err(failed)?;
        Ok(())
    }

    fn set_aside_unreadable(&mut self, storage: &dyn Storage) -> Result<(), OpenError> {
        let mut changed = false;
        for name in &self.unreadable {
            let aside = format!("unreadable-{name}");
            storage.rename(name, &aside).map_err(|source| StorageError {
                action: "set aside",
                object: name.clone(),
                place: storage.place(),
                source,
            })?;
            changed = true;
            self.strangers.push(aside);
        }
        let mut aside: Vec<&String> =
            self.strangers.iter().filter(|name| name.starts_with("unreadable-")).collect();
        aside.sort_unstable();
        for name in aside.iter().rev().skip(KEPT_UNREADABLE) {
            // Only room is at stake.
            let _ = storage.remove(name);
        }
        if changed {
            sync_names(storage)?;
        }
        Ok(())
    }

    /// Keeps one spare of the right size, whatever is in it.
    fn adopt_spare(&self, storage: &dyn Storage, bytes: u64) -> Option<Spare> {
        let mut kept = None;
        for name in &self.spares {
            let usable = storage
                .open(name)
                .ok()
                .filter(|file| kept.is_none() && file.size().is_ok_and(|size| size == bytes));
            match usable {
                Some(file) => kept = Some(Spare { name: name.clone(), file, bytes }),
                // Only room is at stake.
                None => drop(storage.remove(name)),
            }
        }
        kept
    }
}

impl Journal {
    /// Begins an epoch with its first frame, durable.
    pub(crate) fn begin_epoch(
        &mut self,
        predecessor: Predecessor,
    ) -> Result<(), crate::WriteError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            self.shared.storage_error("draw", "a random epoch", io::Error::other(error))
        })?;
        self.flush()?;
        self.ensure_spare()?;
        let before = (self.epoch, self.next, self.durable, self.must_roll);
        self.epoch = Epoch(id);
        self.next = Tail { frame: 0, seq: 0, hash: FrameHash::ZERO };
        self.durable = self.next;
        self.must_roll = true;
        let body = crate::room::loss_body(&LossRecord::Predecessor(predecessor))?;
        let draft = self.own_draft(&body);
        let began = self.append_frame(&draft, 0).and_then(|_| self.flush());
        if began.is_err() {
            (self.epoch, self.next, self.durable, self.must_roll) = before;
            self.pending = Pending::default();
        }
        began
    }

    /// The epoch being delivered is one that is kept.
    pub(crate) fn point_cursor_into_log(&mut self) {
        let first = {
            let log = self.shared.log();
            if log.span(self.cursor.epoch).is_some() {
                return;
            }
            log.segments.first().map(|segment| segment.header.epoch)
        };
        if let Some(epoch) = first {
            self.cursor.epoch = epoch;
            self.cursor.acknowledged = None;
            self.cursor.accounted = 0;
        }
    }

    /// Opens the directory again after a failure, with the same lock and the same readers. Frames
    /// that were pending and are not on the disk are taken again.
    ///
    /// # Errors
    /// See [`OpenError`]; the journal is then as it was and this can be tried again.
    pub fn reopen(&mut self) -> Result<Recovery, OpenError> {
        let (mut opened, recovery) = open_locked(
            Arc::clone(&self.storage),
            self.settings.clone(),
            self.stamp,
            Box::new(()),
            Some(Arc::clone(&self.shared)),
        )?;
        // Opening may have written frames of its own, so what was pending gets new numbers; and an
        // attempt that failed half way may have written some of it. Only the content tells.
        let from = if opened.epoch == self.epoch { self.durable.frame } else { 0 };
        let mut written = opened.contents_from(from).map_err(OpenError::Begin)?;
        let mut rest = self.pending.bytes.get(MARK_BYTES..self.pending.length).unwrap_or(&[]);
        while let Ok(found) = frame::decode(rest) {
            rest = &rest[found.bytes.len()..];
            let header = &found.header;
            if let Some(times) = written.get_mut(&content(found.kind, header, found.body))
                && *times > 0
            {
                *times -= 1;
                continue;
            }
            let draft = crate::Draft {
                kind: found.kind,
                codec: header.codec,
                body: found.body,
                count: header.count,
                stamp: Stamp {
                    wall: header.wall,
                    mono: header.mono,
                    boot: header.boot,
                    clock: header.clock,
                },
            };
            opened.append_frame(&draft, 0).map_err(OpenError::Begin)?;
        }
        opened.stamp = self.stamp;
        let lock = std::mem::replace(&mut self.lock, Box::new(()));
        opened.lock = lock;
        opened.told_unreadable = self.told_unreadable;
        let events = std::mem::take(&mut opened.events);
        opened.events = std::mem::take(&mut self.events);
        events.into_iter().for_each(|event| opened.event(event));
        opened.stats = Stats { failed_syncs: self.stats.failed_syncs, ..opened.stats };
        *self = opened;
        Ok(recovery)
    }
}

/// Makes names durable.
fn sync_names(storage: &dyn Storage) -> Result<(), StorageError> {
    storage.sync_dir().map_err(|source| StorageError {
        action: "sync",
        object: "the directory".into(),
        place: storage.place(),
        source,
    })
}
