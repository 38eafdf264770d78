//! The capture itself: from a cursor to pages of units, file after file.
//! Index and cursor move together: what a page adds to the index is committed once the next page
//! is asked for, since only then the hub has made it durable.
//!
//! ```text
//!   resume(cursor)   index < cursor: roll forward without publishing   index > cursor: build anew
//!   next()           commit what the last page added → begin → read units → page
//! ```
//! It must never let the index run ahead of the hub, nor publish a page of two files.
//! Read next: `capture/units.rs`.

mod units;

use std::path::PathBuf;

use musubi_adapter_sdk::hub::Stream;
use musubi_adapter_sdk::{Capture, CaptureError, Page, SourceSpec, async_trait};

use super::PRODUCT;
use super::config::Config;
use super::folder::{self, Kind, Next, Numbered};
use super::group::OpenFile;
use super::ids::Ids;
use super::index::{Index, Place, Progress};
use super::translate::Source;

/// The capture of one registry.
#[derive(Debug)]
pub(super) struct Tsubame {
    config: Config,
    source: Source,
    /// Part of the index's identity: municipality and installation.
    identity: String,
    index: Option<Index>,
    file: Option<OpenFile>,
    /// What stands after the last page.
    progress: Progress,
    /// A missing number that was told already.
    missing_told: Option<u32>,
}

impl Tsubame {
    pub(super) fn new(config: Config, municipality: &str) -> Self {
        let source = Source {
            municipality: municipality.to_owned(),
            ids: Ids::new(municipality, &config.instance),
        };
        Self {
            identity: format!("{municipality}/{}", config.instance),
            config,
            source,
            index: None,
            file: None,
            progress: Progress {
                place: Place::START,
                number_next: 0,
                loaded_file: 0,
            },
            missing_told: None,
        }
    }

    fn index_file(&self) -> PathBuf {
        self.config.index_file()
    }

    /// Reads from the index's place to the cursor without publishing.
    async fn roll_forward(&mut self, target: Place) -> Result<(), CaptureError> {
        let from = self.progress.place;
        if from < target {
            tracing::info!(%from, to = %target, "building the index up to the hub's cursor");
        }
        while self.progress.place < target {
            let file = match self.find_next()? {
                Next::Ready(file) => file,
                Next::Absent | Next::Missing { .. } => return Err(self.cursor_error(target)),
            };
            self.build_page(&file, Some(target)).await?;
            let progress = self.progress;
            self.index()?.commit(progress).await.map_err(index_error)?;
        }
        if self.progress.place == target {
            Ok(())
        } else {
            Err(self.cursor_error(target))
        }
    }

    fn cursor_error(&self, target: Place) -> CaptureError {
        CaptureError::Cursor {
            cursor: target.to_string(),
        }
    }

    fn find_next(&self) -> Result<Next, CaptureError> {
        let number = self.progress.place.file;
        folder::next(&self.config.folder, number).map_err(|cause| CaptureError::Read {
            what: format!("the folder `{}`", self.config.folder.display()),
            cause: Box::new(cause),
        })
    }

    /// Waits until the next file is complete. A missing number is an alarm for a human, and the
    /// source goes on as soon as the file is there.
    async fn wait_for_file(&mut self) -> Result<Numbered, CaptureError> {
        loop {
            match self.find_next()? {
                Next::Ready(file) => {
                    self.missing_told = None;
                    return Ok(file);
                }
                Next::Missing { higher } => {
                    let missing = self.progress.place.file;
                    if self.missing_told.replace(missing) != Some(missing) {
                        tracing::error!(
                            missing,
                            higher,
                            "a file of the registry is missing while a higher one is complete; \
                             the source waits for it, ask the registry's operator"
                        );
                    }
                }
                Next::Absent => {}
            }
            tokio::time::sleep(self.config.poll()).await;
        }
    }

    /// Opens the file, unless it is open at the right place already.
    async fn open_file(&mut self, file: &Numbered) -> Result<(), CaptureError> {
        if self.file.as_ref().is_some_and(|open| open.file == *file) {
            return Ok(());
        }
        let item = self.progress.place.item;
        let records_done = match file.kind {
            // The header is an item of its own.
            Kind::Full => item.saturating_sub(1),
            Kind::Differential => item,
        };
        self.file = None;
        self.file =
            Some(OpenFile::open(file.clone(), &self.source.municipality, records_done).await?);
        Ok(())
    }

    fn index(&mut self) -> Result<&mut Index, CaptureError> {
        self.index.as_mut().ok_or_else(|| CaptureError::Read {
            what: INDEX.to_owned(),
            cause: "it is not open; resume comes first".into(),
        })
    }

    /// Returns to the last committed state after anything that failed.
    async fn restore(&mut self, cursor: Place) -> Result<(), CaptureError> {
        self.file = None;
        let mut index = match self.index.take() {
            Some(index) => index,
            None => Index::open(&self.index_file(), &self.identity)
                .await
                .map_err(index_error)?,
        };
        index.rollback().await.map_err(index_error)?;
        self.progress = index.progress().await.map_err(index_error)?;
        if self.progress.place > cursor {
            tracing::warn!(index = %self.progress.place, %cursor, "the index is ahead of the hub");
            index.reset().await.map_err(index_error)?;
            self.progress = index.progress().await.map_err(index_error)?;
        }
        self.index = Some(index);
        self.roll_forward(cursor).await
    }
}

#[async_trait]
impl Capture for Tsubame {
    fn source(&self) -> SourceSpec {
        SourceSpec {
            municipality: self.source.municipality.clone(),
            source: self.source.urn(),
            product: PRODUCT.to_owned(),
        }
    }

    async fn resume(&mut self, cursor: Option<String>) -> Result<(), CaptureError> {
        let cursor = match cursor {
            None => Place::START,
            Some(text) => text
                .parse()
                .map_err(|_| CaptureError::Cursor { cursor: text })?,
        };
        match self.restore(cursor).await {
            Err(CaptureError::Read { what, cause }) if what == INDEX => {
                // A broken index is built again from the files, once.
                tracing::warn!(%cause, "the index failed, building it again");
                self.index = None;
                super::index::remove(&self.index_file()).map_err(|cause| CaptureError::Read {
                    what: INDEX.to_owned(),
                    cause: Box::new(cause),
                })?;
                self.restore(cursor).await
            }
            other => other,
        }
    }

    async fn next(&mut self) -> Result<Page, CaptureError> {
        // Being asked for more means that the page before is durable.
        let progress = self.progress;
        self.index()?.commit(progress).await.map_err(index_error)?;
        loop {
            let file = self.wait_for_file().await?;
            let units = self.build_page(&file, None).await?;
            if units.is_empty() {
                let progress = self.progress;
                self.index()?.commit(progress).await.map_err(index_error)?;
                continue;
            }
            let stream = match file.kind {
                Kind::Full => Stream::Bulk,
                Kind::Differential => Stream::Live,
            };
            return Ok(Page {
                stream,
                units,
                cursor: self.progress.place.to_string(),
            });
        }
    }
}

const INDEX: &str = "the index";

fn index_error(cause: sqlx::Error) -> CaptureError {
    CaptureError::Read {
        what: INDEX.to_owned(),
        cause: Box::new(cause),
    }
}
