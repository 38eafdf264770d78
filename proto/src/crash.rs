//! Named points at which a process dies on purpose; a release build has none of them.
//! Called by hub, SDK and connectors between two steps that a crash may separate.
//! Must never do anything but abort, and only when the environment names the point.
//! Read next: `docs/specs/faults.md`, which lists the points.

/// Dies here when `MUSUBI_CRASH_AT` names this point: `<point>`, or `<point>:<n-th time>`.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::reached(name);
    #[cfg(not(debug_assertions))]
    let _: &str = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const VARIABLE: &str = "MUSUBI_CRASH_AT";

    /// The point that is armed, and how many times it is passed before the process dies.
    static POINT: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();

    pub(super) fn reached(name: &str) {
        let Some((armed, left)) = POINT.get_or_init(read) else {
            return;
        };
        if armed == name && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // As a kill: nothing is flushed, closed or said.
            std::process::abort();
        }
    }

    fn read() -> Option<(String, AtomicU64)> {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        let times = times.parse().unwrap_or(1);
        Some((name.to_owned(), AtomicU64::new(times)))
    }
}
