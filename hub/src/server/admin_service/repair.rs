//! Acts on parked units and bindings, for operators.
//! Behind `AdminService.RetryParked`, `SkipParked`, `Stop` and `Resume`.
//! Must never pass on an act without who and why.
//! Read next: `server/runner/repair.rs`.

use musubi_proto::hub::v1::{
    ResumeRequest, ResumeResponse, RetryParkedRequest, RetryParkedResponse, SkipParkedRequest,
    SkipParkedResponse, StopRequest, StopResponse,
};
use tonic::Code;

use super::{parked, subscriptions_of, unit_key};
use crate::limits::PAGE_MAX;
use crate::publish::sequencer::PublishError;
use crate::server::runner::{Repair, RepairAsk, RepairError, RepairReport};
use crate::server::status::{Failure, invalid, not_found, who_and_why};
use crate::server::town::Town;

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        let text = error.to_string();
        match error {
            RepairError::Missing => Failure::new(Code::NotFound, "NOT_FOUND", text),
            RepairError::Changed { .. } => {
                Failure::new(Code::Aborted, "CHANGED_MEANWHILE", text).field("revision")
            }
            RepairError::UnderWay => Failure::new(Code::FailedPrecondition, "BEING_RETRIED", text),
            RepairError::NotStopped(_) => {
                Failure::new(Code::FailedPrecondition, "NOT_STOPPED", text)
            }
            RepairError::Stopped(_) => {
                Failure::new(Code::FailedPrecondition, "ALREADY_STOPPED", text)
            }
            RepairError::Store(error) => error.into(),
        }
    }
}

/// Has the runner of a subscription carry out an act, or say what it would do.
pub(super) async fn repair(
    town: &Town,
    subscription: &str,
    ask: RepairAsk,
) -> Result<RepairReport, Failure> {
    who_and_why(&ask.operator, &ask.reason)?;
    let runner = town.runner(subscription);
    let runner = runner.ok_or_else(|| not_found("subscription", subscription))?;
    let report = runner.repair(ask.clone()).await;
    let report = report.ok_or_else(|| Failure::from(PublishError::Stopped))??;
    tracing::info!(
        subscription,
        operator = ask.operator,
        act = ?ask.what,
        dry_run = ask.dry_run,
        units = report.units.len(),
        freed = report.freed,
        "an operator repairs"
    );
    Ok(report)
}

/// Delivers parked units again.
pub(super) async fn retry(
    town: &Town,
    request: RetryParkedRequest,
) -> Result<RetryParkedResponse, Failure> {
    let refused_with = Some(request.refused_with).filter(|reason| !reason.is_empty());
    if request.sequence > 0 && refused_with.is_some() {
        return Err(invalid(
            "refused_with",
            "name a unit, or a reason, not both",
        ));
    }
    let what = match request.sequence {
        0 => Repair::RetryAll(refused_with),
        sequence => Repair::Retry(unit_key(request.stream, sequence, request.member)),
    };
    let ask = RepairAsk {
        what,
        operator: request.operator,
        reason: request.reason,
        revision: request.revision,
        dry_run: request.dry_run,
    };
    let report = repair(town, &request.subscription, ask).await?;
    let planned = report.units.iter().take(PAGE_MAX);
    Ok(RetryParkedResponse {
        units: report.freed,
        subjects: report.subjects,
        planned: planned
            .map(|row| parked::wire(&request.subscription, row))
            .collect(),
        more: report.more,
    })
}

/// Ends a parked unit without delivering it.
pub(super) async fn skip(
    town: &Town,
    request: SkipParkedRequest,
) -> Result<SkipParkedResponse, Failure> {
    let key = unit_key(request.stream, request.sequence, request.member);
    let ask = RepairAsk {
        what: Repair::Skip(key),
        operator: request.operator,
        reason: request.reason,
        revision: request.revision,
        dry_run: request.dry_run,
    };
    let report = repair(town, &request.subscription, ask).await?;
    let skipped = report.units.first();
    Ok(SkipParkedResponse {
        skipped: skipped.map(|row| parked::wire(&request.subscription, row)),
        freed: report.freed,
    })
}

/// Stops the delivery to a system, or to all.
pub(super) async fn stop(town: &Town, request: StopRequest) -> Result<StopResponse, Failure> {
    let ask = RepairAsk {
        what: Repair::Stop,
        operator: request.operator,
        reason: request.reason,
        revision: 0,
        dry_run: request.dry_run,
    };
    let subscriptions = each(town, &request.system, request.all, &ask).await?;
    Ok(StopResponse { subscriptions })
}

/// Lets what was stopped go on.
pub(super) async fn resume(town: &Town, request: ResumeRequest) -> Result<ResumeResponse, Failure> {
    let ask = RepairAsk {
        what: Repair::Resume,
        operator: request.operator,
        reason: request.reason,
        revision: 0,
        dry_run: request.dry_run,
    };
    let subscriptions = each(town, &request.system, request.all, &ask).await?;
    Ok(ResumeResponse { subscriptions })
}

/// Stops or resumes all subscriptions of a system, or all; those that are so already are left out,
/// unless there is no other.
async fn each(
    town: &Town,
    system: &str,
    all: bool,
    ask: &RepairAsk,
) -> Result<Vec<String>, Failure> {
    if all != system.is_empty() {
        return Err(invalid("system", "name one system, or all of them"));
    }
    who_and_why(&ask.operator, &ask.reason)?;
    let (mut done, mut left_out) = (Vec::new(), None);
    for subscription in subscriptions_of(town, &town.overviews().await, system) {
        match repair(town, &subscription, ask.clone()).await {
            Ok(_) => done.push(subscription),
            Err(failure) if failure.code == Code::FailedPrecondition => left_out = Some(failure),
            Err(failure) => return Err(failure),
        }
    }
    match left_out {
        _ if !done.is_empty() => Ok(done),
        Some(failure) => Err(failure.field("system")),
        None => Err(not_found("subscription of system", system).field("system")),
    }
}
