//! SIGINT and SIGTERM: the first ends the run, which reports what there is; the second ends the program.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::TROUBLE;
use crate::cli::Trouble;

/// From here on a request to end raises the flag; with the flag up, it ends the program at once.
///
/// # Errors
/// No handler can be installed.
pub fn ends(flag: &Arc<AtomicBool>) -> Result<(), Trouble> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        register_conditional_shutdown(signal, TROUBLE.into(), flag.clone())
            .and_then(|_| register(signal, flag.clone()))
            .map_err(|error| format!("cannot take signals: {error}"))?;
    }
    Ok(())
}
