//! The way into a process: stdin, terminal size, kill.

use super::{
    kill,
    session::{Guard, Shared},
    start,
};
use crate::error;
use async_trait::async_trait;
use bytes::Bytes;
use plimsoll_lifecycle::ports::{ExecControl, HostError, TtySize};
use plimsoll_types::Code;
use std::sync::{Arc, atomic::Ordering};
use tokio::io::AsyncWriteExt;

pub(crate) struct Control {
    shared: Arc<Shared>,
    // Held only so that its drop counts.
    _guard: Arc<Guard>,
    stdin: bool,
    tty: bool,
}

impl Control {
    pub(crate) const fn new(shared: Arc<Shared>, guard: Arc<Guard>, stdin: bool, tty: bool) -> Self {
        Self { shared, _guard: guard, stdin, tty }
    }
}

fn ended() -> HostError {
    error::permanent(Code::ExecFailed, "the process has ended or its stdin is closed")
}

#[async_trait]
impl ExecControl for Control {
    async fn write(&mut self, data: Bytes) -> Result<(), HostError> {
        if !self.stdin {
            return Err(error::permanent(Code::InvalidRequest, "the process was started without a stdin"));
        }
        if data.is_empty() {
            return Ok(());
        }
        let mut writer = self.shared.writer.lock().await;
        let Some(open) = writer.as_mut().filter(|_| !self.shared.ended.load(Ordering::Acquire)) else {
            return Err(ended());
        };
        let written = async {
            open.write_all(&data).await?;
            open.flush().await
        };
        if written.await.is_err() {
            *writer = None;
            return Err(ended());
        }
        Ok(())
    }

    async fn close_stdin(&mut self) -> Result<(), HostError> {
        let mut writer = self.shared.writer.lock().await;
        if let Some(open) = writer.as_mut() {
            // If that fails, the process has ended: its stdin is closed either way.
            let _ = open.shutdown().await;
        }
        *writer = None;
        Ok(())
    }

    async fn resize(&mut self, size: TtySize) -> Result<(), HostError> {
        if !self.tty {
            return Err(error::permanent(Code::InvalidRequest, "the process was started without a terminal"));
        }
        start::resize(&self.shared.target.api, &self.shared.id, size).await
    }

    async fn kill(&mut self) -> Result<(), HostError> {
        if self.shared.ended.load(Ordering::Acquire) {
            return Ok(());
        }
        // Killed here, so that the answer is the truth; the stream's end tells the reader.
        kill::kill(&self.shared.target).await
    }
}
