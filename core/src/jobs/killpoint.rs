//! Places where a rehearsal may end the process as `kill -9` would, or freeze it as a machine out of memory
//! does. An operator, or a test, sets `BABELVISOR_KILL_AT` or `BABELVISOR_HALT_AT` to the name of one
//! (`create/define:called`) and sees what recovery makes of it.
//!
//! Every step has four: `begin` (nothing written yet), `begun` (the journal says that the call is coming),
//! `called` (the backend did it, nobody knows), `done` (the journal knows). The undo of a step has two:
//! `create/undo-define:begin` and `:called`. A job has two more: `<command>/finish:begin` and
//! `<command>/finish:done`.

use std::sync::OnceLock;

/// The environment variable that names the place of death.
pub const VARIABLE: &str = "BABELVISOR_KILL_AT";

/// The environment variable that names the place where the process freezes until it gets SIGCONT.
pub const HALT_VARIABLE: &str = "BABELVISOR_HALT_AT";

/// The place where this process shall end, if any.
pub fn armed() -> Option<&'static str> {
    static PLACE: OnceLock<Option<String>> = OnceLock::new();
    place(&PLACE, VARIABLE)
}

/// The place where this process shall freeze, if any.
pub fn halting() -> Option<&'static str> {
    static PLACE: OnceLock<Option<String>> = OnceLock::new();
    place(&PLACE, HALT_VARIABLE)
}

fn place(known: &'static OnceLock<Option<String>>, variable: &str) -> Option<&'static str> {
    known
        .get_or_init(|| std::env::var(variable).ok().filter(|place| !place.is_empty()))
        .as_deref()
}

/// Ends or freezes the process at once, without unwinding or flushing, if this is the place.
pub(super) fn pass(command: &str, step: &str, moment: &str) {
    if armed().is_some_and(|place| is(place, command, step, moment)) {
        // SIGKILL to ourselves is what is being rehearsed: no destructor, no exit handler may run.
        signal("-KILL");
        std::process::abort();
    }
    if halting().is_some_and(|place| is(place, command, step, moment)) {
        tracing::warn!(command, step, moment, "freezing here, as asked, until SIGCONT");
        signal("-STOP");
    }
}

fn is(place: &str, command: &str, step: &str, moment: &str) -> bool {
    place
        .strip_prefix(command)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.strip_prefix(step))
        .and_then(|rest| rest.strip_prefix(':'))
        == Some(moment)
}

fn signal(which: &str) {
    let pid = std::process::id().to_string();
    let _ = std::process::Command::new("kill").args([which, &pid]).status();
}

#[cfg(test)]
mod tests {
    use super::is;

    #[test]
    fn a_place_is_one_moment_of_one_step_of_one_command() {
        assert!(is("create/define:called", "create", "define", "called"));
        for (command, step, moment) in [
            ("create", "define", "begun"),
            ("create", "volume-0", "called"),
            ("delete", "define", "called"),
            ("creat", "define", "called"),
            ("create", "def", "called"),
        ] {
            assert!(
                !is("create/define:called", command, step, moment),
                "{command}/{step}:{moment}"
            );
        }
    }
}
