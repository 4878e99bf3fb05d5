//! Both sides of a tunnel on loopback, with rules, in plaintext and under CURVE.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use callosum_runtime::auth::{CurveClient, CurveKeyPair, KeySet, generate_keys};
use callosum_runtime::{Binder, Connector};
use callosum_tunnel::{Resolver, RuleSet, Rules, ServerSettings, Tunnel, TunnelServer, TunnelSettings};
use futures_util::future::{BoxFuture, ready};
use tokio::task::JoinSet;

/// The user that the rules of these tests are about.
pub(crate) const USER: &str = "agent";

/// The name that the server's resolver, and no other, has an address for.
pub(crate) const NAME: &str = "peer.internal";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plaintext,
    Curve,
}

impl Security {
    pub(crate) const BOTH: [Self; 2] = [Self::Plaintext, Self::Curve];
}

/// Dropping it ends everything.
pub(crate) struct Gateway {
    pub(crate) tunnel: Tunnel,
    /// The host and port at which the server is.
    pub(crate) server: String,
    /// The client's keys and the server's, if they have any.
    pub(crate) keys: Option<(CurveKeyPair, CurveKeyPair)>,
    _ends: (Binder, Connector),
    _tasks: JoinSet<()>,
}

impl Gateway {
    pub(crate) async fn new(security: Security, rules: &str) -> Self {
        let mut rules = RuleSet::new(Rules::parse(rules).unwrap());
        let (mut bound, mut connecting) = (callosum_tokio::builder(), callosum_tokio::builder());
        let keys = (security == Security::Curve).then(|| (generate_keys(), generate_keys()));
        if let Some((client, server)) = &keys {
            let admitted = KeySet::new(server.clone());
            admitted.admit(client.public(), USER);
            bound = bound.authenticator(admitted);
            connecting = connecting.authenticator(CurveClient::new(client.clone(), server.public()));
        } else {
            rules = rules.anonymous(USER);
        }
        let settings = ServerSettings::default().resolver(Names);
        let (serving, following) = TunnelServer::new(bound.runtime(), rules, settings);
        let (binder, serve) = serving.add_to(bound).bind("tcp://127.0.0.1:0").await.unwrap();
        let (connector, connect) = connecting.connect(&binder.endpoints()[0]).unwrap();
        let (tunnel, forward) =
            Tunnel::new(connector.peer(), connector.handlers(), TunnelSettings::default());
        let server = binder.endpoints()[0].to_string().replace("tcp://", "");
        let mut tasks = JoinSet::new();
        tasks.spawn(following);
        tasks.spawn(forward);
        tasks.spawn(async { drop(serve.await) });
        tasks.spawn(async { drop(connect.await) });
        Self { tunnel, server, keys, _ends: (binder, connector), _tasks: tasks }
    }
}

/// Knows [`NAME`].
struct Names;

impl Resolver for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let known = (name == NAME).then(|| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        Box::pin(ready(known.ok_or_else(|| io::ErrorKind::NotFound.into())))
    }
}
