//! An OpenTelemetry collector of a test's own: takes OTLP by gRPC and keeps everything.
//! Stands for the operator's collector; processes find it by the standard variables.
//! Must never drop or shorten what it got: leaks are looked for in it.
//! Read next: `leaks.rs`, `tests/telemetry.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A span as it came, ids in hex.
#[derive(Debug, Clone, Default)]
pub struct Span {
    /// `service.name` of its process.
    pub service: String,
    /// Name.
    pub name: String,
    /// Trace.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// Parent; empty for a root.
    pub parent: String,
    /// Linked traces and spans.
    pub links: Vec<(String, String)>,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
}

/// A log record as it came.
#[derive(Debug, Clone)]
pub struct Line {
    /// `service.name` of its process.
    pub service: String,
    /// Trace; empty when it belongs to none.
    pub trace: String,
    /// Text.
    pub body: String,
}

/// Labels of a point, with the `service.instance.id` of its process among them.
pub type Labels = BTreeMap<String, String>;

/// Everything that came.
#[derive(Debug, Default)]
struct Taken {
    texts: Vec<String>,
    spans: Vec<Span>,
    lines: Vec<Line>,
    /// Last value by instrument and labels; of a histogram, the number of its values.
    metrics: BTreeMap<String, BTreeMap<Labels, f64>>,
}

/// A running collector; it ends with the runtime of the test.
#[derive(Debug, Clone)]
pub struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    /// Starts it on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no free port")?;
        let address = listener.local_addr()?;
        let collector = Self {
            address,
            taken: Arc::default(),
        };
        let server = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Ok(collector)
    }

    /// Points a command and all its children here.
    pub fn listen_to(&self, command: &mut Command) {
        command
            .env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://{}", self.address),
            )
            .env("OTEL_METRIC_EXPORT_INTERVAL", "500");
    }

    /// Everything that came, as text.
    pub fn texts(&self) -> Vec<String> {
        self.taken().texts.clone()
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        self.taken().spans.clone()
    }

    /// All log records.
    pub fn lines(&self) -> Vec<Line> {
        self.taken().lines.clone()
    }

    /// Last values of an instrument whose labels include these.
    pub fn values(&self, metric: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let taken = self.taken();
        let points = taken.metrics.get(metric).into_iter().flatten();
        let wanted = |have: &Labels| {
            labels
                .iter()
                .all(|(key, value)| have.get(*key).is_some_and(|v| v == value))
        };
        points
            .filter(|(have, _)| wanted(have))
            .map(|(_, value)| *value)
            .collect()
    }

    /// Their sum; 0 when there is none.
    pub fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.values(metric, labels).iter().sum()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.taken();
        taken.texts.push(format!("{request:?}"));
        for group in request.resource_spans {
            let service = service(group.resource.as_ref());
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let links = span
                    .links
                    .iter()
                    .map(|link| (hex(&link.trace_id), hex(&link.span_id)));
                taken.spans.push(Span {
                    service: service.clone(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    links: links.collect(),
                    attributes: attributes(&span.attributes),
                    name: span.name,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.taken();
        taken.texts.push(format!("{request:?}"));
        for group in request.resource_logs {
            let service = service(group.resource.as_ref());
            for record in group
                .scope_logs
                .into_iter()
                .flat_map(|scope| scope.log_records)
            {
                let body = record.body.and_then(|body| body.value);
                taken.lines.push(Line {
                    service: service.clone(),
                    trace: hex(&record.trace_id),
                    body: body.as_ref().map(text).unwrap_or_default(),
                });
            }
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.taken();
        taken.texts.push(format!("{request:?}"));
        for group in request.resource_metrics {
            let resource = group.resource.unwrap_or_default();
            let resource = attributes(&resource.attributes);
            for metric in group
                .scope_metrics
                .into_iter()
                .flat_map(|scope| scope.metrics)
            {
                let name = metric.name.clone();
                let values = taken.metrics.entry(name).or_default();
                for (mut labels, value) in points(metric) {
                    let instance = resource.get("service.instance.id").cloned();
                    labels.insert(
                        "service.instance.id".to_owned(),
                        instance.unwrap_or_default(),
                    );
                    values.insert(labels, value);
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn points(metric: Metric) -> Vec<(Labels, f64)> {
    let numbers = match metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points,
        Some(Data::Sum(sum)) => sum.data_points,
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.into_iter();
            return points
                .map(|p| (attributes(&p.attributes), p.count as f64))
                .collect();
        }
        _ => return Vec::new(),
    };
    let value = |value: Option<number_data_point::Value>| match value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        None => 0.0,
    };
    numbers
        .into_iter()
        .map(|p| (attributes(&p.attributes), value(p.value)))
        .collect()
}

fn service(resource: Option<&Resource>) -> String {
    let all = resource
        .map(|resource| attributes(&resource.attributes))
        .unwrap_or_default();
    all.get("service.name").cloned().unwrap_or_default()
}

fn attributes(all: &[KeyValue]) -> Labels {
    let value = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        value.map(text).unwrap_or_default()
    };
    all.iter()
        .map(|pair| (pair.key.clone(), value(pair)))
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
