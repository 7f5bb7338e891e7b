//! Work that is done where connections live, whoever waits for it.

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::carrier::Later;
use crate::error::{Error, Kind, Result};

/// Does `work` on `runtime`, as one of `tasks`.
pub(super) fn at_home<T: Send + 'static>(
    (runtime, tasks): (&Handle, &TaskTracker),
    operation: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Later<'static, Result<T>> {
    let working = tasks.spawn_on(work, runtime);
    Box::pin(async move {
        working
            .await
            .unwrap_or_else(|_| Err(Error::new(Kind::Closed, operation, "the transport has ended")))
    })
}
