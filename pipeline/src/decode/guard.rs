//! Keeps a panic inside a decoder from ending more than the one image that caused it.
//!
//! Catching needs nothing global. Keeping the panic's message off stderr does, so this library never does that by itself: a
//! program that owns its process calls [`install_quiet_panic_hook`] once.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Replaces the process's panic hook by one that stays silent for panics inside a decoder (they become a row with status
/// `corrupt`) and calls the previous hook for all others. Calling it again does nothing.
pub fn install_quiet_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // A thread that is going down may have lost its thread-local storage already; then the panic is not a decoder's.
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                previous(panic);
            }
        }));
    });
}

/// Runs `work`; a panic in it comes back as its message.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    // Whatever `work` left half-written is given up by the caller together with the image.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.map_err(|payload| message(payload.as_ref()))
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_as_its_message_and_the_thread_goes_on() {
        install_quiet_panic_hook();
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(
            guarded::<()>(|| panic!("planar {}", 4)),
            Err("planar 4".to_owned())
        );
        assert_eq!(guarded::<()>(|| panic!("plain")), Err("plain".to_owned()));
        assert!(!GUARDED.get());
    }
}
