//! The SSH side of a simulated host: any key may log in, scripts are answered, and streams to Docker's socket end at its API.

use super::{Host, docker, machine};
use russh::{
    Channel, ChannelId, ChannelMsg,
    server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey},
};
use std::sync::{Arc, atomic::Ordering};
use tokio::net::TcpListener;

/// Longer than any script of the driver's.
const MAX_SCRIPT: usize = 64 << 10;

/// Accepts connections until the listener fails.
pub async fn serve(listener: TcpListener, config: Arc<russh::server::Config>, host: Arc<Host>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (config, login) = (Arc::clone(&config), Login(Arc::clone(&host)));
        tokio::spawn(async move {
            if let Ok(session) = russh::server::run_stream(config, stream, login).await {
                // How it ended is seen by the driver.
                let _ended = session.await;
            }
        });
    }
}

struct Login(Arc<Host>);

impl Handler for Login {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _user: &str, _key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        self.0.counts.logins.fetch_add(1, Ordering::Relaxed);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        tokio::spawn(script(channel, Arc::clone(&self.0)));
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        tokio::spawn(docker::serve(channel.into_stream(), Arc::clone(&self.0)));
        Ok(())
    }
}

/// Reads the script to its end and answers as the machine would.
async fn script(mut channel: Channel<Msg>, host: Arc<Host>) {
    let mut text = Vec::new();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } if text.len() + data.len() <= MAX_SCRIPT => text.extend_from_slice(&data),
            ChannelMsg::Eof => break,
            _ => {}
        }
    }
    let answer = machine::run(&host, &text).await;
    // The driver may have gone away meanwhile.
    let _ended = channel.data(answer.as_bytes()).await;
    let _ended = channel.exit_status(0).await;
    let _ended = channel.eof().await;
    let _ended = channel.close().await;
}
