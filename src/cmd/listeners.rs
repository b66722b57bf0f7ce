//! The sockets a router listens on: for each address one per shard.

use crate::config::Config;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// A listener of one address: one socket for each shard.
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) sockets: Vec<TcpListener>,
}

/// Binds every address once alone, so that a taken port is noticed and port 0 is resolved, then
/// once for each shard.
pub(super) fn listen(config: &Config) -> Result<Vec<Bound>, String> {
    config
        .listen
        .iter()
        .map(|address| {
            let alone = bind(address, Sharing::Alone).map_err(|error| explain(address, &error))?;
            let resolved = alone.local_addr().map_err(|error| explain(address, &error))?;
            drop(alone);
            let shared = Sharing::Shared { backlog: config.io.backlog };
            let sockets = config.cores.iter().map(|_| bind(&resolved, shared)).collect();
            let sockets: io::Result<Vec<_>> = sockets;
            let sockets = sockets.map_err(|error| explain(address, &error))?;
            Ok(Bound { address: resolved, sockets })
        })
        .collect()
}

/// Why nobody can listen there, and the cure.
fn explain(address: &SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "another program does".to_owned(),
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address".to_owned()
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot listen on {address}: {why}; choose another --listen")
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Sharing {
    Alone,
    /// By one socket per shard; each keeps so many connections that are not accepted yet.
    Shared {
        backlog: i32,
    },
}

fn bind(address: &SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if sharing != Sharing::Alone {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?; // what it accepts inherits it
    socket.bind(&(*address).into())?;
    if let Sharing::Shared { backlog } = sharing {
        socket.listen(backlog)?;
    }
    Ok(socket.into())
}
