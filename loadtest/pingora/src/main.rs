//! `loadtest-pingora LISTEN BACKEND`: passes every request to one backend, and nothing else.
//!
//! One thread, no work stealing, kept connections on both sides: what the other proxies of
//! `loadtest/compare` are given too.

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use std::sync::Arc;

/// Idle connections to the backend that are kept; the other proxies keep as many.
const KEPT: usize = 1024;

struct Front {
    backend: String,
}

#[async_trait]
impl ProxyHttp for Front {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend.as_str(), false, String::new())))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(backend)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: loadtest-pingora LISTEN BACKEND");
        std::process::exit(2);
    };
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: KEPT,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), Front { backend });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
