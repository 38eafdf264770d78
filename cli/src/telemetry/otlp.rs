//! The exporters of traces, metrics and logs, by the standard `OTEL_*` variables.
//! Off without an endpoint; each signal by itself.
//! Must never fail a command: a variable that makes no sense turns its signal off, with a word.
//! Read next: `hub/src/telemetry.rs`, `adapters/sdk/src/telemetry.rs`.

use std::error::Error;
use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};

use super::tell;

/// Spans that wait for their export, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise: a first
/// filling makes many at once, and what does not fit is lost.
const SPAN_QUEUE: usize = 32_768;

/// The providers of one process; none when telemetry is off.
#[derive(Debug, Default)]
pub(super) struct Providers {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    pub(super) logs: Option<SdkLoggerProvider>,
}

/// What ends one provider.
pub(super) type Shutdown = Box<dyn FnOnce() -> OTelSdkResult + Send>;

impl Providers {
    /// One task a provider; each may block.
    pub(super) fn shutdowns(self, timeout: Duration) -> Vec<Shutdown> {
        let mut tasks: Vec<Shutdown> = Vec::new();
        if let Some(traces) = self.traces {
            tasks.push(Box::new(move || traces.shutdown_with_timeout(timeout)));
        }
        if let Some(metrics) = self.metrics {
            tasks.push(Box::new(move || metrics.shutdown_with_timeout(timeout)));
        }
        if let Some(logs) = self.logs {
            tasks.push(Box::new(move || logs.shutdown_with_timeout(timeout)));
        }
        tasks
    }
}

/// Makes the providers that the environment asks for and sets them for the process.
pub(super) fn start(service: &str) -> Providers {
    if variable("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true") {
        return Providers::default();
    }
    let resource = resource(service);
    let providers = Providers {
        traces: made("TRACES", || traces(&resource)),
        metrics: made("METRICS", || metrics(&resource)),
        logs: made("LOGS", || logs(&resource)),
    };
    if let Some(traces) = &providers.traces {
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(traces.clone());
    }
    if let Some(metrics) = &providers.metrics {
        global::set_meter_provider(metrics.clone());
    }
    providers
}

type Made<T> = Result<T, Box<dyn Error>>;

/// A provider, when its signal is on and its exporter can be made.
fn made<T>(signal: &str, make: impl FnOnce() -> Made<T>) -> Option<T> {
    if !is_on(signal, &variable) {
        return None;
    }
    make()
        .inspect_err(|error| tell(&format!("{signal} are not exported: {error}")))
        .ok()
}

/// True when the variables ask for a signal by gRPC.
fn is_on(signal: &str, variable: &dyn Fn(&str) -> String) -> bool {
    let either = |suffix: &str| {
        let own = variable(&format!("OTEL_EXPORTER_OTLP_{signal}_{suffix}"));
        if own.is_empty() {
            variable(&format!("OTEL_EXPORTER_OTLP_{suffix}"))
        } else {
            own
        }
    };
    let exporter = variable(&format!("OTEL_{signal}_EXPORTER"));
    if either("ENDPOINT").is_empty() || exporter == "none" {
        return false;
    }
    let protocol = either("PROTOCOL");
    if !matches!(exporter.as_str(), "" | "otlp") || !matches!(protocol.as_str(), "" | "grpc") {
        tell(&format!(
            "{signal} are exported by OTLP over gRPC only, not `{exporter}{protocol}`"
        ));
        return false;
    }
    true
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default().trim().to_owned()
}

fn resource(service: &str) -> Resource {
    let named = !variable("OTEL_SERVICE_NAME").is_empty()
        || variable("OTEL_RESOURCE_ATTRIBUTES").contains("service.name=");
    let resource = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ]);
    if named {
        resource
    } else {
        resource.with_service_name(service.to_owned())
    }
    .build()
}

fn traces(resource: &Resource) -> Made<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().build()?;
    let mut batches = BatchConfigBuilder::default();
    if variable("OTEL_BSP_MAX_QUEUE_SIZE").is_empty() {
        batches = batches.with_max_queue_size(SPAN_QUEUE);
    }
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build());
    // The sampler comes from OTEL_TRACES_SAMPLER; without it: the parent's decision, else always.
    Ok(SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_span_processor(processor.build())
        .build())
}

fn metrics(resource: &Resource) -> Made<SdkMeterProvider> {
    let exporter = MetricExporter::builder().with_tonic().build()?;
    let provider = SdkMeterProvider::builder().with_resource(resource.clone());
    Ok(provider.with_periodic_exporter(exporter).build())
}

fn logs(resource: &Resource) -> Made<SdkLoggerProvider> {
    let exporter = LogExporter::builder().with_tonic().build()?;
    let provider = SdkLoggerProvider::builder().with_resource(resource.clone());
    Ok(provider.with_batch_exporter(exporter).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(signal: &str, set: &[(&str, &str)]) -> bool {
        is_on(signal, &|name| {
            let found = set.iter().find(|(key, _)| *key == name);
            found
                .map(|(_, value)| (*value).to_owned())
                .unwrap_or_default()
        })
    }

    #[test]
    fn a_signal_is_exported_when_an_endpoint_is_named_for_it() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
        let logs = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://127.0.0.1:4317");
        assert!(!on("TRACES", &[]));
        assert!(on("TRACES", &[all]));
        assert!(on("LOGS", &[logs]));
        assert!(!on("METRICS", &[logs]));
        assert!(!on("TRACES", &[all, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(!on(
            "TRACES",
            &[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]
        ));
        assert!(on(
            "LOGS",
            &[logs, ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc")]
        ));
    }
}
