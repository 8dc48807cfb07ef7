//! Places where a rehearsal may end the process as `kill -9` would. An operator, or a test, sets
//! `BABELVISOR_KILL_AT` to the name of one (`create/define:called`) and sees what recovery makes of it.
//!
//! Every step has four: `begin` (nothing written yet), `begun` (the journal says that the call is coming),
//! `called` (the backend did it, nobody knows), `done` (the journal knows). A job has two more: `<command>/
//! finish:begin` and `<command>/finish:done`.

use std::sync::OnceLock;

/// The environment variable that names the place.
pub const VARIABLE: &str = "BABELVISOR_KILL_AT";

/// The place where this process shall end, if any.
pub fn armed() -> Option<&'static str> {
    static PLACE: OnceLock<Option<String>> = OnceLock::new();
    PLACE
        .get_or_init(|| std::env::var(VARIABLE).ok().filter(|place| !place.is_empty()))
        .as_deref()
}

/// Ends the process at once, without unwinding or flushing, if this is the place.
pub(super) fn pass(command: &str, step: &str, moment: &str) {
    if let Some(place) = armed()
        && place
            .strip_prefix(command)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(step))
            == Some(&format!(":{moment}"))
    {
        // SIGKILL to ourselves is what is being rehearsed: no destructor, no exit handler may run.
        let pid = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
        std::process::abort();
    }
}
