//! AdminService: what operators see and do.
//! Reads the stores and runners, asks towns for changes.
//! Must never show a 宛名番号 in a list: pseudonyms there, content only for one named unit.
//! Read next: `server/town.rs`.

use std::sync::Arc;

use musubi_proto::hub::v1::admin_service_server::AdminService;
use musubi_proto::hub::v1::{
    ActKind, BindProductRequest, BindProductResponse, BindSourceRequest, BindSourceResponse,
    Binding, BindingState as WireBindingState, CutOverRequest, CutOverResponse, EditParkedRequest,
    EditParkedResponse, GetCaseRequest, GetCaseResponse, GetHeldRequest, GetHeldResponse,
    GetParkedRequest, GetParkedResponse, ListActsRequest, ListActsResponse, ListAlarmsRequest,
    ListAlarmsResponse, ListHeldRequest, ListHeldResponse, ListParkedRequest, ListParkedResponse,
    ListReplaysRequest, ListReplaysResponse, ListSubscriptionsRequest, ListSubscriptionsResponse,
    OutcomeCounts, PausedBy as WirePausedBy, ResumeRequest, ResumeResponse, RetryParkedRequest,
    RetryParkedResponse, SetDeliverySettingsRequest, SetDeliverySettingsResponse,
    SetSourceRhythmRequest, SetSourceRhythmResponse, SkipParkedRequest, SkipParkedResponse,
    StartReplayRequest, StartReplayResponse, StopReplayRequest, StopReplayResponse, StopRequest,
    StopResponse, Subscription,
};
use tonic::{Code, Request, Response, Status};

use super::auth::{Role, municipality};
use super::cluster::forward::was_passed_on;
use super::hub::Hub;
use super::runner::Overview;
use super::status::{Failure, invalid, who_and_why};
use super::town::{Town, subscription_id};
use super::whole::to_its_end;
use crate::event::{Municipality, Stream};
use crate::limits::IDENTIFIER_CHARS_MAX;
use crate::store::{BindingRow, BindingState, NewAct, PausedBy, UnitKey};

mod acts;
mod alarms;
mod cases;
mod edit;
mod held;
mod parked;
mod repair;
mod replays;
mod settings;
mod sources;

/// The service.
#[derive(Clone, Debug)]
pub struct Admin(pub Arc<Hub>);

impl Admin {
    /// The municipality of a request, when the caller operates it.
    async fn town<T>(&self, request: &Request<T>, code: &str) -> Result<Arc<Town>, Status> {
        let caller = self.0.tokens.caller(request)?;
        let m = municipality(code)?;
        caller.check(&m, Role::Operator, "")?;
        Ok(self.0.town(&m).await?)
    }

    /// The open municipalities that the caller of a request operates.
    async fn towns<T>(&self, request: &Request<T>) -> Result<Vec<Arc<Town>>, Status> {
        let caller = self.0.tokens.caller(request)?;
        let mut towns = self.0.towns().await;
        towns.retain(|town| caller.check(&town.municipality, Role::Operator, "").is_ok());
        Ok(towns)
    }
}

fn wire_binding(binding: &BindingRow, attached: &str) -> Binding {
    let state = match binding.state {
        BindingState::Filling => WireBindingState::Filling,
        BindingState::Serving => WireBindingState::Serving,
        BindingState::Replaced => WireBindingState::Replaced,
    };
    let paused_by = match binding.paused.as_ref().map(|pause| pause.by) {
        None => WirePausedBy::Unspecified,
        Some(PausedBy::Adapter) => WirePausedBy::Adapter,
        Some(PausedBy::Hub) => WirePausedBy::Hub,
        Some(PausedBy::Operator) => WirePausedBy::Operator,
    };
    let mut shown = Binding {
        product: binding.product.clone(),
        epoch: binding.epoch,
        state: state as i32,
        attached: binding.state != BindingState::Replaced && binding.product == attached,
        cut_position: binding.cut.map_or(0, |(live, _)| live.0.saturating_sub(1)),
        paused: binding.paused.is_some(),
        pause_reason: binding
            .paused
            .as_ref()
            .map(|pause| pause.reason.clone())
            .unwrap_or_default(),
        paused_by: paused_by as i32,
        ..Binding::default()
    };
    if binding.state != BindingState::Replaced {
        settings::show(binding, &mut shown);
    }
    shown
}

fn wire_subscription(overview: &Overview) -> Subscription {
    let row = &overview.row;
    let tally = row.tally;
    let mut bindings: Vec<Binding> = row
        .bindings
        .iter()
        .rev()
        .map(|b| wire_binding(b, &overview.attached))
        .collect();
    bindings.sort_by_key(|binding| binding.state != WireBindingState::Serving as i32);
    let done = tally.applied
        + tally.duplicate
        + tally.superseded
        + tally.skipped
        + tally.not_relevant
        + tally.pending_review;
    Subscription {
        id: row.id.clone(),
        municipality: row.municipality.to_string(),
        system: row.system.clone(),
        bindings,
        sequence: row.live.sequence.saturating_sub(1),
        complete_up_to: row.live.sequence.saturating_sub(1),
        live_position: row.live.position.0,
        bulk_position: row.bulk.position.0,
        lag: overview.lag,
        in_flight: overview.in_flight,
        counts: Some(OutcomeCounts {
            received: done + tally.rejected + tally.waiting,
            applied: tally.applied,
            duplicate: tally.duplicate,
            superseded: tally.superseded,
            skipped: tally.skipped,
            not_relevant: tally.not_relevant,
            pending_review: tally.pending_review,
            rejected: tally.rejected,
            waiting: tally.waiting,
        }),
        filled: row.filled,
    }
}

/// Checks the words of a change.
fn words(operator: &str, reason: &str, names: [(&str, &str); 2]) -> Result<(), Failure> {
    who_and_why(operator, reason)?;
    for (field, value) in names {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if value.is_empty() || value.len() > IDENTIFIER_CHARS_MAX || !value.chars().all(plain) {
            return Err(invalid(
                field,
                "letters, digits, `-`, `_`, `.` and `:` only",
            ));
        }
    }
    Ok(())
}

/// Reads `<municipality>/<業務ID>` of a request.
fn municipality_of(subscription: &str) -> Result<Municipality, Status> {
    municipality(subscription.split('/').next().unwrap_or_default())
}

fn unit_key(stream: i32, sequence: u64, member: u32) -> UnitKey {
    UnitKey {
        stream: Stream::from_wire(stream),
        sequence,
        member,
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn list_subscriptions(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        let overviews = town.overviews().await;
        let subscriptions = overviews.iter().map(wire_subscription).collect();
        Ok(Response::new(ListSubscriptionsResponse {
            subscriptions,
            incarnation: self.0.commons.incarnation,
        }))
    }

    async fn bind_product(
        &self,
        request: Request<BindProductRequest>,
    ) -> Result<Response<BindProductResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        let ask = request.into_inner();
        words(
            &ask.operator,
            &ask.reason,
            [("system", &ask.system), ("product", &ask.product)],
        )?;
        let binding = town.clone();
        let id = to_its_end(async move {
            let bound = binding.bind(&ask.system, &ask.product, &ask.operator, &ask.reason);
            bound.await
        });
        let id = id.await?;
        let overviews = town.overviews().await;
        let found = overviews.iter().find(|overview| overview.row.id == id);
        let subscription = found.map(wire_subscription);
        Ok(Response::new(BindProductResponse { subscription }))
    }

    async fn cut_over(
        &self,
        request: Request<CutOverRequest>,
    ) -> Result<Response<CutOverResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        let ask = request.into_inner();
        words(
            &ask.operator,
            &ask.reason,
            [("system", &ask.system), ("product", &ask.product)],
        )?;
        let report = to_its_end(async move {
            let cut = town.cut(&ask.system, &ask.product, &ask.operator, &ask.reason);
            cut.await
        });
        let report = report.await?;
        Ok(Response::new(CutOverResponse {
            position: report.position,
            epoch: report.epoch,
            closed_open: report.closed_open,
            closed_parked: report.closed_parked,
            publish_pause_us: report.publish_pause_us,
        }))
    }

    async fn bind_source(
        &self,
        request: Request<BindSourceRequest>,
    ) -> Result<Response<BindSourceResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        let ask = request.into_inner();
        words(
            &ask.operator,
            &ask.reason,
            [("source", &ask.source), ("product", &ask.product)],
        )?;
        let store = &self.0.commons.store;
        let bound = store
            .bind_capture(&town.municipality, &ask.source, &ask.product)
            .await;
        let capture_epoch = bound.map_err(Failure::from)?;
        let act = NewAct {
            target: format!("{} {}", ask.source, ask.product),
            note: format!("epoch {capture_epoch}"),
            ..NewAct::now(ActKind::BindSource as i32, &ask.operator, &ask.reason)
        };
        let recorded = store.record_act(&town.municipality, act).await;
        recorded.map_err(Failure::from)?;
        tracing::info!(
            source = ask.source,
            product = ask.product,
            operator = ask.operator,
            reason = ask.reason,
            capture_epoch,
            "a source is bound"
        );
        Ok(Response::new(BindSourceResponse { capture_epoch }))
    }

    async fn set_delivery_settings(
        &self,
        request: Request<SetDeliverySettingsRequest>,
    ) -> Result<Response<SetDeliverySettingsResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        let answer = settings::set(&town, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn set_source_rhythm(
        &self,
        request: Request<SetSourceRhythmRequest>,
    ) -> Result<Response<SetSourceRhythmResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            sources::set_rhythm(&self.0, &town, request.into_inner()).await?,
        ))
    }

    async fn list_held(
        &self,
        request: Request<ListHeldRequest>,
    ) -> Result<Response<ListHeldResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            held::list(&self.0, &town, request.get_ref()).await?,
        ))
    }

    async fn get_held(
        &self,
        request: Request<GetHeldRequest>,
    ) -> Result<Response<GetHeldResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            held::get(&self.0, &town, &request.get_ref().id).await?,
        ))
    }

    async fn list_parked(
        &self,
        request: Request<ListParkedRequest>,
    ) -> Result<Response<ListParkedResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            parked::list(&self.0, &town, request.get_ref()).await?,
        ))
    }

    async fn get_parked(
        &self,
        request: Request<GetParkedRequest>,
    ) -> Result<Response<GetParkedResponse>, Status> {
        let m = municipality_of(&request.get_ref().subscription)?;
        let town = self.town(&request, m.as_str()).await?;
        let ask = request.into_inner();
        let key = unit_key(ask.stream, ask.sequence, ask.member);
        Ok(Response::new(
            parked::get(&self.0, &town, &ask.subscription, key).await?,
        ))
    }

    async fn retry_parked(
        &self,
        request: Request<RetryParkedRequest>,
    ) -> Result<Response<RetryParkedResponse>, Status> {
        let m = municipality_of(&request.get_ref().subscription)?;
        let town = self.town(&request, m.as_str()).await?;
        Ok(Response::new(
            repair::retry(&town, request.into_inner()).await?,
        ))
    }

    async fn skip_parked(
        &self,
        request: Request<SkipParkedRequest>,
    ) -> Result<Response<SkipParkedResponse>, Status> {
        let m = municipality_of(&request.get_ref().subscription)?;
        let town = self.town(&request, m.as_str()).await?;
        Ok(Response::new(
            repair::skip(&town, request.into_inner()).await?,
        ))
    }

    async fn edit_parked(
        &self,
        request: Request<EditParkedRequest>,
    ) -> Result<Response<EditParkedResponse>, Status> {
        let m = municipality_of(&request.get_ref().subscription)?;
        let town = self.town(&request, m.as_str()).await?;
        Ok(Response::new(
            edit::edit(&self.0, &town, request.into_inner()).await?,
        ))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            repair::stop(&town, request.into_inner()).await?,
        ))
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<ResumeResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            repair::resume(&town, request.into_inner()).await?,
        ))
    }

    async fn list_acts(
        &self,
        request: Request<ListActsRequest>,
    ) -> Result<Response<ListActsResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            acts::list(&self.0, &town, request.get_ref()).await?,
        ))
    }

    async fn list_alarms(
        &self,
        request: Request<ListAlarmsRequest>,
    ) -> Result<Response<ListAlarmsResponse>, Status> {
        let code = request.get_ref().municipality.as_str();
        if !code.is_empty() {
            let town = self.town(&request, code).await?;
            let listed = alarms::list(&[town], request.get_ref()).await?;
            return Ok(Response::new(listed));
        }
        let towns = self.towns(&request).await?;
        let here = alarms::list(&towns, request.get_ref()).await?;
        Ok(Response::new(match self.0.cluster() {
            Some(cluster) if !was_passed_on(request.metadata()) => {
                alarms::of_others(&cluster, &request, here).await?
            }
            _ => here,
        }))
    }

    async fn start_replay(
        &self,
        request: Request<StartReplayRequest>,
    ) -> Result<Response<StartReplayResponse>, Status> {
        let m = municipality_of(&request.get_ref().subscription)?;
        let town = self.town(&request, m.as_str()).await?;
        let ask = request.into_inner();
        words(&ask.operator, &ask.reason, [("operator", "x"); 2])?;
        let replay = Some(replays::start(&town, ask).await?);
        Ok(Response::new(StartReplayResponse { replay }))
    }

    async fn list_replays(
        &self,
        request: Request<ListReplaysRequest>,
    ) -> Result<Response<ListReplaysResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        let replays = replays::list(&town, request.get_ref().limit).await?;
        Ok(Response::new(ListReplaysResponse { replays }))
    }

    async fn stop_replay(
        &self,
        request: Request<StopReplayRequest>,
    ) -> Result<Response<StopReplayResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        let ask = request.into_inner();
        words(&ask.operator, &ask.reason, [("operator", "x"); 2])?;
        let replay = Some(replays::stop(&town, ask).await?);
        Ok(Response::new(StopReplayResponse { replay }))
    }

    async fn get_case(
        &self,
        request: Request<GetCaseRequest>,
    ) -> Result<Response<GetCaseResponse>, Status> {
        let town = self.town(&request, &request.get_ref().municipality).await?;
        Ok(Response::new(
            cases::get(&self.0, &town, request.get_ref()).await?,
        ))
    }
}

/// Subscription of a system, or all.
fn subscriptions_of(town: &Town, overviews: &[Overview], system: &str) -> Vec<String> {
    let own = subscription_id(&town.municipality, system);
    overviews
        .iter()
        .map(|overview| overview.row.id.clone())
        .filter(|id| system.is_empty() || *id == own || id.starts_with(&format!("{own}~")))
        .collect()
}

/// A page size of a request within its limits.
fn page(size: u32) -> usize {
    match size as usize {
        0 => crate::limits::PAGE_DEFAULT,
        size => size.min(crate::limits::PAGE_MAX),
    }
}

/// What is stored cannot be read.
fn unreadable(what: &str) -> Failure {
    Failure::new(
        Code::DataLoss,
        "UNREADABLE",
        format!("the stored {what} cannot be read"),
    )
}
