//! Publishes what a source captures, page by page.
//! It asks the hub for the cursor, lets the adapter resume there and publishes what comes.
//! It must never pass over a page: a page that was not made durable is captured again.
//! Read next: `../capture.rs`, which it calls.

use musubi_proto::crash;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::connection::{HubAccess, HubError, Way, chain, event_client, reason_in};
use crate::capture::{Capture, CaptureError, Page, SourceSpec};
use crate::hub::{
    CaptureCursor, GetCaptureCursorRequest, PublishRequest, PublishResponse, unit_answer::Answer,
};
use crate::limits::{CALL_TIMEOUT, FIRST_ANSWER_TIMEOUT, NOT_BOUND_DELAY};
use crate::telemetry::Captured;

/// Why a round of capturing ended.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("the hub refused unit {unit} of a page: {reason}: {message}")]
    Refused {
        unit: usize,
        reason: String,
        message: String,
    },
    #[error("the hub answered {answers} of {units} units")]
    Unanswered { answers: usize, units: usize },
    #[error("the hub did not answer a call in time")]
    TimedOut,
    #[error("the source is not bound to this product now")]
    NotBound,
}

/// Runs `capture` until `shutdown`: resumes at the hub's cursor, publishes, and starts over
/// there after any failure.
pub async fn run_capture(
    hub: HubAccess,
    mut capture: Box<dyn Capture>,
    shutdown: CancellationToken,
) {
    let source = capture.source();
    let mut backoff = Backoff::new();
    let mut told = String::new();
    let mut way = Way::new(hub);
    while !shutdown.is_cancelled() {
        let mut published = || {
            backoff.reset();
            told.clear();
        };
        let hub = way.access();
        let round = round(&hub, capture.as_mut(), &source, &mut published);
        let ended = tokio::select! {
            () = shutdown.cancelled() => break,
            ended = round => ended,
        };
        let Err(error) = ended;
        tell_once(&source, &error, &mut told);
        let asked = match &error {
            RoundError::Hub(error) => {
                way.failed(error);
                error.delay()
            }
            // An instance that hangs may be frozen: another one is asked.
            RoundError::TimedOut => {
                way.failed(&HubError::Ended);
                None
            }
            RoundError::NotBound => Some(NOT_BOUND_DELAY),
            _ => None,
        };
        let delay = asked.unwrap_or_else(|| backoff.next_delay());
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(delay) => {}
        }
    }
    tracing::info!(product = source.product, "capture stopped");
}

/// Captures and publishes until something fails.
async fn round(
    hub: &HubAccess,
    capture: &mut dyn Capture,
    source: &SourceSpec,
    published: &mut (dyn FnMut() + Send),
) -> Result<std::convert::Infallible, RoundError> {
    let mut client = event_client(hub).await?;
    let asked = client.get_capture_cursor(GetCaptureCursorRequest {
        municipality: source.municipality.clone(),
        source: source.source.clone(),
        product: source.product.clone(),
    });
    let answer = timeout(FIRST_ANSWER_TIMEOUT, asked)
        .await
        .map_err(|_| RoundError::TimedOut)?
        .map_err(HubError::from)?
        .into_inner();
    // Epochs count from the first binding.
    if answer.capture_epoch == 0 {
        return Err(RoundError::NotBound);
    }
    tracing::info!(
        product = source.product,
        capture_epoch = answer.capture_epoch,
        started = answer.cursor.is_some(),
        "capture resumed"
    );
    capture
        .resume(answer.cursor.map(|cursor| cursor.value))
        .await?;
    loop {
        let mut page = capture.next().await?;
        let units = page.units.len();
        let captured = Captured::start(source, &mut page);
        let request = request(source, page, answer.capture_epoch);
        crash::point("capture.translated");
        let answer = timeout(CALL_TIMEOUT, client.publish(request))
            .await
            .map_err(|_| RoundError::TimedOut)?
            .map_err(HubError::from)?;
        let answer = answer.into_inner();
        crash::point("capture.answered");
        captured.answered(&answer);
        check(units, answer)?;
        published();
    }
}

fn request(source: &SourceSpec, page: Page, capture_epoch: u64) -> PublishRequest {
    PublishRequest {
        municipality: source.municipality.clone(),
        source: source.source.clone(),
        stream: page.stream.into(),
        units: page.units,
        cursor: Some(CaptureCursor { value: page.cursor }),
        capture_epoch,
    }
}

/// Every unit must be durable or held; anything else stops the source.
fn check(units: usize, response: PublishResponse) -> Result<(), RoundError> {
    if response.answers.len() != units {
        return Err(RoundError::Unanswered {
            answers: response.answers.len(),
            units,
        });
    }
    for (unit, answer) in response.answers.into_iter().enumerate() {
        match answer.answer {
            Some(Answer::Accepted(_)) => {}
            Some(Answer::Held(held)) => {
                tracing::warn!(held_id = held.held_id, rule = held.rule, "unit held");
            }
            Some(Answer::Refused(status)) => {
                let reason = reason_in(&status.details);
                return Err(RoundError::Refused {
                    unit,
                    reason,
                    message: status.message,
                });
            }
            None => {
                return Err(RoundError::Unanswered {
                    answers: unit,
                    units,
                });
            }
        }
    }
    Ok(())
}

/// Logs an error when it differs from the one before.
fn tell_once(source: &SourceSpec, error: &RoundError, told: &mut String) {
    let text = chain(error);
    if *told == text {
        return;
    }
    let product = &source.product;
    match error {
        RoundError::Hub(HubError::Connect { .. } | HubError::Ended) | RoundError::TimedOut => {
            tracing::warn!(
                product,
                error = text,
                "hub lost, capturing again from its cursor"
            );
        }
        RoundError::NotBound => {
            tracing::info!(product, "waiting for an operator to bind the source");
        }
        _ => tracing::error!(product, error = text, "capture stopped, trying again"),
    }
    *told = text;
}
