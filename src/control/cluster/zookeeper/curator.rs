//! What routers are to Curator's service discovery, so that those written for the JVM see them.

use crate::core::peers::Member;
use serde_json::{Value, json};

/// Longest value that is read as one; Curator's are below 1 KiB.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// A router as Curator's `ServiceInstance`.
pub(super) fn write(me: &Member, cluster: &str) -> Vec<u8> {
    let (address, port) = place(&me.address);
    json!({
        "name": cluster,
        "id": me.id.as_str(),
        "address": address,
        "port": port,
        "sslPort": null,
        "payload": {"@class": "java.util.HashMap", "router-fqdn": address, "router-ssl-port": null},
        "registrationTimeUTC": me.since,
        "serviceType": "DYNAMIC",
        "uriSpec": {"parts": [
            {"value": "scheme", "variable": true},
            {"value": "://", "variable": false},
            {"value": "address", "variable": true},
            {"value": ":", "variable": false},
            {"value": "port", "variable": true},
            {"value": "/", "variable": false},
            {"value": "endpoint", "variable": true},
        ]},
    })
    .to_string()
    .into_bytes()
}

/// The router whose node has this name; where it is, if that can be understood.
pub(super) fn read(name: &str, value: &[u8]) -> Option<Member> {
    let id = super::session::router_id(name)?;
    let whole = value.get(..VALUE_BYTES_MAX.min(value.len()))?;
    let json: Value = serde_json::from_slice(whole).ok()?;
    let (address, port) = (json["address"].as_str()?, json["port"].as_u64()?);
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let since = json["registrationTimeUTC"].as_u64().unwrap_or(0);
    Some(Member { id, address: format!("{address}:{port}"), since })
}

fn place(address: &str) -> (String, Option<u16>) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_matches(['[', ']']).to_owned(), port.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::RouterId;

    #[test]
    fn a_router_is_read_as_it_was_written_and_garbage_is_none() {
        for address in ["10.0.0.7:9091", "[::1]:80"] {
            let me = Member { id: RouterId::new("r"), address: address.into(), since: 7 };
            assert_eq!(read("r", &write(&me, "c")), Some(me));
        }
        for garbage in ["", "{", "[]", "{\"address\":1,\"port\":2}", "\u{0}"] {
            assert_eq!(read("r", garbage.as_bytes()), None, "{garbage}");
        }
        assert_eq!(read("r", &vec![b' '; 1 << 20]), None);
        assert_eq!(read("r", &[0xff, 0xfe]), None);
    }
}
