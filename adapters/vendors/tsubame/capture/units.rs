//! Builds the units of one page from one file.
//! Full files become header, records and trailer; differential files become one unit a 届出.
//! It must never count a row twice, nor let a refused 届出 leave traces in the index.
//! Read next: `../group.rs`, `../translate.rs`.

use std::collections::BTreeSet;

use musubi_adapter_sdk::CaptureError;
use musubi_adapter_sdk::hub::{Event, Origin, PublishUnit, Unit, publish_unit::Content};
use musubi_adapter_sdk::limits::{PAGE_BYTES_MAX, PAGE_UNITS_MAX};
use musubi_proto::standard::common::v1::SnapshotPart;
use prost::Message;

use super::{Tsubame, index_error};
use crate::vendors::tsubame::check::{Judged, Violation};
use crate::vendors::tsubame::folder::{self, Kind, Numbered};
use crate::vendors::tsubame::group::{OpenFile, judge_group, readable_subject};
use crate::vendors::tsubame::index::{KnownChange, Place};
use crate::vendors::tsubame::limits::LOAD_ROWS_MAX;
use crate::vendors::tsubame::translate::{Member, Snapshot, digest, gather, gather_snapshot_head};

/// Units of a page, with their size.
#[derive(Debug, Default)]
struct Filling {
    units: Vec<PublishUnit>,
    bytes: usize,
}

impl Filling {
    fn push(&mut self, unit: PublishUnit) {
        self.bytes += unit.encoded_len();
        self.units.push(unit);
    }

    fn is_full(&self) -> bool {
        self.units.len() >= PAGE_UNITS_MAX || self.bytes >= PAGE_BYTES_MAX
    }
}

impl Tsubame {
    /// Reads the next page's units of `file`, up to `target` when there is one, and moves on.
    pub(super) async fn build_page(
        &mut self,
        file: &Numbered,
        target: Option<Place>,
    ) -> Result<Vec<PublishUnit>, CaptureError> {
        self.open_file(file).await?;
        if file.kind == Kind::Full && self.progress.loaded_file < file.number {
            self.load_full_file(file).await?;
        }
        self.index()?.begin().await.map_err(index_error)?;
        let mut filling = Filling::default();
        let reached = |place: Place| target.is_some_and(|target| place >= target);
        while !filling.is_full() && !reached(self.progress.place) {
            let more = match file.kind {
                Kind::Full => self.next_snapshot_item(&mut filling).await?,
                Kind::Differential => self.next_notification(&mut filling).await?,
            };
            if !more {
                self.file = None;
                self.progress.place = self.progress.place.next_file();
                break;
            }
        }
        Ok(filling.units)
    }

    fn open(&mut self) -> Result<&mut OpenFile, CaptureError> {
        self.file.as_mut().ok_or_else(|| CaptureError::Read {
            what: "a file".to_owned(),
            cause: "it is not open".into(),
        })
    }

    /// Puts all images of a full file into the index, so that every row finds its head. It is the
    /// same whatever the place in the file, so it may be done before the hub knows of the file.
    async fn load_full_file(&mut self, file: &Numbered) -> Result<(), CaptureError> {
        let mut load = OpenFile::open(file.clone(), &self.source.municipality, 0).await?;
        let mut more = true;
        while more {
            self.index()?.begin().await.map_err(index_error)?;
            for _ in 0..LOAD_ROWS_MAX {
                let Some(judged) = load.next_row()? else {
                    more = false;
                    break;
                };
                if let Ok(row) = &judged.row {
                    self.index()?.put_person(row).await.map_err(index_error)?;
                }
            }
            if !more {
                self.progress.loaded_file = file.number;
            }
            let progress = self.progress;
            self.index()?.commit(progress).await.map_err(index_error)?;
        }
        Ok(())
    }

    /// The header, the next row or the trailer of a full file; false after the trailer.
    async fn next_snapshot_item(&mut self, filling: &mut Filling) -> Result<bool, CaptureError> {
        let item = self.progress.place.item;
        let open = self.open()?;
        let snapshot = Snapshot {
            file: open.file.number,
            records: open.verified.records,
            as_of: open.verified.as_of.clone(),
            sha256: folder::hex(&open.verified.sha256),
        };
        if item > snapshot.records + 1 {
            return Ok(false);
        }
        if item == 0 || item == snapshot.records + 1 {
            let part = if item == 0 {
                SnapshotPart::Header
            } else {
                SnapshotPart::Trailer
            };
            let origin = Origin {
                file: open.file.name(),
                line: item.min(snapshot.records),
            };
            let event = self.source.snapshot_edge(&snapshot, part);
            filling.push(accepted(vec![event], origin));
        } else {
            self.push_snapshot_row(&snapshot, filling).await?;
        }
        self.progress.place.item += 1;
        Ok(true)
    }

    async fn push_snapshot_row(
        &mut self,
        snapshot: &Snapshot,
        filling: &mut Filling,
    ) -> Result<(), CaptureError> {
        let Some(mut judged) = self.open()?.next_row()? else {
            let open = self.open()?;
            return Err(folder::alarm(
                &open.file,
                "FILE_CHANGED",
                "the file lost records",
            ));
        };
        self.refuse_second_head_of_snapshot(&mut judged).await?;
        let origin = self.open()?.origin(&judged.record);
        if let Ok(row) = &judged.row {
            let index = self.index()?;
            let head = gather_snapshot_head(index, row)
                .await
                .map_err(index_error)?;
            let event = self
                .source
                .snapshot_row(snapshot, row, &judged, head.as_deref());
            filling.push(accepted(vec![event], origin));
        } else {
            let refused = self.open()?.refused(std::slice::from_ref(&judged));
            filling.push(PublishUnit {
                content: Some(Content::Refused(refused)),
                ..unit(origin)
            });
        }
        Ok(())
    }

    async fn refuse_second_head_of_snapshot(
        &mut self,
        judged: &mut Judged,
    ) -> Result<(), CaptureError> {
        let Ok(row) = &judged.row else { return Ok(()) };
        if !(row.is_head() && row.is_resident()) {
            return Ok(());
        }
        let heads = self
            .index()?
            .heads(row.household())
            .await
            .map_err(index_error)?;
        if heads.len() > 1 {
            judged.row = Err(second_head());
        }
        Ok(())
    }

    /// The next 届出 of a differential file; false at its end.
    async fn next_notification(&mut self, filling: &mut Filling) -> Result<bool, CaptureError> {
        let mut rows = self.open()?.next_group()?;
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let Some(first) = rows.first() else {
            return Ok(false);
        };
        let origin = self.open()?.origin(&first.record);
        self.number_rows(&mut rows).await?;
        if !rows.is_empty() {
            let content = self.notification(rows).await?;
            filling.push(PublishUnit {
                content: Some(content),
                ..unit(origin)
            });
        }
        self.progress.place.item += count;
        Ok(true)
    }

    /// Checks that 異動連番 goes on by one. A refused row takes its place in the count; a row that
    /// was handed out before, byte for byte, is left out; any other number that was there before
    /// is refused.
    async fn number_rows(&mut self, rows: &mut Vec<Judged>) -> Result<(), CaptureError> {
        let mut repeated = BTreeSet::new();
        for (place, judged) in rows.iter_mut().enumerate() {
            let given: Option<u64> = judged.text("idorenban").parse().ok();
            let mut expected = self.progress.number_next;
            if expected == 0 {
                expected = given.unwrap_or(1);
            }
            match given {
                Some(number) if number < expected => {
                    let known = self.index()?.change(number).await.map_err(index_error)?;
                    if known.is_some_and(|known| known.digest == digest(&judged.record.raw)) {
                        repeated.insert(place);
                        continue;
                    }
                    refuse(judged, number_reused());
                }
                Some(number) if number > expected && judged.row.is_ok() => {
                    refuse(judged, number_gap());
                    expected = number;
                }
                _ => {}
            }
            self.progress.number_next = expected + 1;
            let change = KnownChange {
                version: judged
                    .row
                    .as_ref()
                    .map(|row| row.version())
                    .unwrap_or_default(),
                reason: judged.text("idojiyukodo").to_owned(),
                digest: digest(&judged.record.raw),
            };
            self.index()?
                .put_change(expected, &change)
                .await
                .map_err(index_error)?;
        }
        if !repeated.is_empty() {
            tracing::warn!(
                rows = repeated.len(),
                "rows that were handed out before are left out"
            );
            let mut place = 0;
            rows.retain(|_| {
                place += 1;
                !repeated.contains(&(place - 1))
            });
        }
        Ok(())
    }

    /// One 届出: its events, or all its rows when one of them is refused.
    async fn notification(&mut self, mut rows: Vec<Judged>) -> Result<Content, CaptureError> {
        judge_group(&mut rows);
        for judged in &mut rows {
            self.refuse_unknown_correction(judged).await?;
        }
        if rows.iter().all(|judged| judged.row.is_ok()) {
            self.index()?.mark().await.map_err(index_error)?;
            let members = gather(self.index()?, &rows).await.map_err(index_error)?;
            self.refuse_second_head(&members, &mut rows).await?;
            if rows.iter().all(|judged| judged.row.is_ok()) {
                self.index()?.keep().await.map_err(index_error)?;
                return Ok(Content::Unit(self.source.unit(&members)));
            }
            self.index()?.return_to_mark().await.map_err(index_error)?;
        }
        for judged in &rows {
            let index = self.index()?;
            match &judged.row {
                Ok(row) => index.put_person(row).await.map_err(index_error)?,
                Err(_) => {
                    let (subject, _) = readable_subject(judged, Kind::Differential);
                    index.mark_held(&subject).await.map_err(index_error)?;
                }
            }
        }
        Ok(Content::Refused(self.open()?.refused(&rows)))
    }

    /// A row that corrects another names one that was handed out. Rows from before the first one
    /// that was ever captured cannot be known.
    async fn refuse_unknown_correction(&mut self, judged: &mut Judged) -> Result<(), CaptureError> {
        let Ok(row) = &judged.row else { return Ok(()) };
        let Ok(number) = row.get("teiseimotoidorenban").parse::<u64>() else {
            return Ok(());
        };
        let own = row.change_number();
        let index = self.index()?;
        let known = number < own && index.change(number).await.map_err(index_error)?.is_some();
        let first = index.first_change().await.map_err(index_error)?;
        let before_capture =
            first.is_some_and(|first| i64::try_from(number).is_ok_and(|n| n < first));
        if !known && !before_capture {
            let message = "the row that is corrected was never handed out";
            judged.row = Err(Violation::new(
                "CORRECTS_UNKNOWN_ROW",
                "teiseimotoidorenban",
                message,
            ));
        }
        Ok(())
    }

    /// A household has one head at the end of a 届出. The row that made a second one is refused.
    async fn refuse_second_head(
        &mut self,
        members: &[Member],
        rows: &mut [Judged],
    ) -> Result<(), CaptureError> {
        for (place, member) in members.iter().enumerate() {
            let row = &member.row;
            if !(row.is_head() && row.is_resident()) {
                continue;
            }
            let heads = self
                .index()?
                .heads(row.household())
                .await
                .map_err(index_error)?;
            // The image of a person with a refused row may be old: it proves nothing.
            let others = heads
                .iter()
                .filter(|head| head.atenabango != row.atenabango());
            let second = others.clone().any(|head| !head.held);
            let was_head = member.before.as_ref().is_some_and(|before| {
                before.is_head() && before.is_resident() && before.household() == row.household()
            });
            let is_last = members
                .iter()
                .skip(place + 1)
                .all(|later| later.row.atenabango() != row.atenabango());
            if second
                && is_last
                && !was_head
                && let Some(judged) = rows.get_mut(place)
            {
                judged.row = Err(second_head());
            }
        }
        Ok(())
    }
}

/// Refuses a row, unless another rule was found broken first.
fn refuse(judged: &mut Judged, violation: Violation) {
    if judged.row.is_ok() {
        judged.row = Err(violation);
    }
}

fn number_reused() -> Violation {
    let message = "the 異動連番 was used before, with other content";
    Violation::new("NUMBER_REUSED", "idorenban", message)
}

fn number_gap() -> Violation {
    let message = "the 異動連番 does not follow on the one before";
    Violation::new("NUMBER_GAP", "idorenban", message)
}

fn second_head() -> Violation {
    Violation::new(
        "SECOND_HEAD",
        "zokugarakodo",
        "the household has another head already",
    )
}

fn unit(origin: Origin) -> PublishUnit {
    PublishUnit {
        origin: Some(origin),
        ..PublishUnit::default()
    }
}

fn accepted(events: Vec<Event>, origin: Origin) -> PublishUnit {
    PublishUnit {
        content: Some(Content::Unit(Unit { events })),
        ..unit(origin)
    }
}
