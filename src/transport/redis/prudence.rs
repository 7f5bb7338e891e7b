//! Whether the server keeps what it is given: asked once, told to operators.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::redis::{RedisResult, Value, cmd};

use super::Inner;
use super::answers;
use super::link::Link;

/// Warns where a server takes out what is in use when its memory is full. Where it may not be asked
/// for its configuration, as at many providers, nothing is known.
pub(super) async fn look(inner: &Arc<Inner>) {
    if inner.looked.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut link = Link::shared(inner, &inner.keys.categories());
    let Ok(config) = ask(&mut link).await else { return };
    let get = |name: &str| config.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
    let writes = match (get("appendonly"), get("appendfsync")) {
        (Some("yes"), Some(how)) => format!("to a file, synced {how}"),
        (Some("no"), _) => "to snapshots alone, or not at all".into(),
        _ => "nobody knows where".into(),
    };
    tracing::info!(target: "tiebeam::transport", "the server writes what it is given {writes}");
    let bounded = get("maxmemory").is_some_and(|most| most != "0");
    if let Some(policy) =
        get("maxmemory-policy").filter(|policy| bounded && *policy != "noeviction")
    {
        // Streams of events never expire.
        let what = match policy.starts_with("volatile") {
            true => "replies, and whose turn it is to read",
            false => "whole streams, and what is in them is lost",
        };
        let reason = format!(
            "the server has `maxmemory-policy {policy}`: when its memory is full it takes out \
             {what}; set it to `noeviction`"
        );
        tracing::warn!(target: "tiebeam::transport", "{reason}");
        (inner.news)("system.transport.evicts", serde_json::json!({"reason": reason}));
    }
}

async fn ask(link: &mut Link) -> RedisResult<Vec<(String, String)>> {
    let mut config = Vec::new();
    for pattern in ["maxmemory*", "append*"] {
        let mut asked = cmd("CONFIG");
        asked.arg("GET").arg(pattern);
        let answer = link.get().await?.send_packed_command(&asked).await?.extract_error()?;
        for (name, value) in answers::pairs(answer) {
            if let (Ok(name), Value::BulkString(value)) = (String::from_utf8(name), value) {
                config.push((name, String::from_utf8_lossy(&value).into_owned()));
            }
        }
    }
    Ok(config)
}
