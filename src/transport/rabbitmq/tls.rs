//! Which cryptography `amqps://` uses.

use std::sync::Once;

/// Has rustls use `ring`, unless somebody has chosen already: without a choice it panics.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that somebody has.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
