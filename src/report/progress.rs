//! How far a run has come, on a terminal, while it works.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::outcome::{ClaimResult, Status};

/// A bar on standard error; nothing where that is no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// One that counts so many claims.
    pub fn new(claims: usize) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(claims as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} claims, {elapsed} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar }
    }

    /// A claim is done; one that did not pass is named above the bar.
    pub fn done(&self, result: &ClaimResult) {
        match result.status {
            Status::Fail => self.bar.println(format!("FAIL {}", result.id)),
            Status::Skip => self.bar.println(format!("skip {}", result.id)),
            Status::Known => self.bar.println(format!("known {}", result.id)),
            Status::Stale => self.bar.println(format!("STALE {}", result.id)),
            Status::Pass | Status::Unobservable => {}
        }
        self.bar.set_message(result.id.clone());
        self.bar.inc(1);
    }

    /// The bar goes, so that the report can take its place.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
