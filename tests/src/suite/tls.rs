//! TLS of another crate under ZMTP: a byte stream that keeps what is written until it is flushed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::rt::{BoxStream, ByteStream};
use callosum_runtime::{Builder, Context, Endpoint, HandlerResult, SocketOptions, duplex};
use futures_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsConnector};
use futures_util::join;

use crate::rig::{Pair, Rig};

/// Bytes that TLS holds before it takes no more.
const BUFFER: usize = 4096;

const NAME: &str = "callosum.test";

/// A server with a certificate of its own, and a client that trusts it.
fn tls() -> (TlsConnector, TlsAcceptor) {
    let server = rcgen::generate_simple_self_signed([String::from(NAME)]).expect("it is a name");
    let certificate: CertificateDer<'static> = server.cert.into();
    let key = PrivatePkcs8KeyDer::from(server.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .expect("they belong together");
    (Arc::new(client).into(), Arc::new(server).into())
}

/// Encrypts both ends of a byte stream.
async fn encrypt(ours: BoxStream, theirs: BoxStream) -> (impl ByteStream, impl ByteStream) {
    let (connector, acceptor) = tls();
    let name = ServerName::try_from(NAME).expect("it is a name");
    let (ours, theirs) = join!(
        connector.connect_with(name, ours, |session| session.set_buffer_limit(Some(BUFFER))),
        acceptor.accept_with(theirs, |session| session.set_buffer_limit(Some(BUFFER))),
    );
    (ours.expect("the certificate is trusted"), theirs.expect("the client trusts the certificate"))
}

/// No probe pushes anything out for an hour.
fn builder(rig: &Rig) -> Builder {
    rig.builder()
        .keepalive(Duration::from_secs(3600), 2)
        .handle("double", |n: u64, _: Context| async move { HandlerResult::Ok(2 * n) })
        .handle_raw("echo", |body: Bytes, _: Context| async move { HandlerResult::Ok(body) })
}

async fn calls_both_ways(rig: &Rig, ours: BoxStream, theirs: BoxStream) {
    let (ours, theirs) = encrypt(ours, theirs).await;
    let (binder, binder_driver) = builder(rig).binder();
    let binder_driver = rig.drive(binder_driver);
    let (connector, connector_driver) = builder(rig).connect_stream(ours);
    let connector_driver = rig.drive(connector_driver);
    binder.accept(theirs, "over TLS").expect("there is room");
    let back = rig.sole_peer(&binder).await;
    let pair = Pair { binder, binder_driver, connector, connector_driver, back };
    let large = Bytes::from(vec![7; 9 << 20]);
    for peer in [pair.peer(), &pair.back] {
        for n in 0..10 {
            assert_eq!(peer.invoke::<_, u64>("double", &n).await.expect("it is answered"), 2 * n);
        }
        let echoed = peer.invoke_raw("echo", large.clone()).into_future();
        let (echoed, small) = join!(echoed, peer.invoke::<_, u64>("double", &21).into_future());
        assert!(echoed.expect("it comes back") == large);
        assert_eq!(small.expect("it is answered"), 42);
    }
    pair.end().await;
}

/// TLS over a socket.
pub async fn over_a_socket(rig: Rig) {
    let endpoint: Endpoint = rig.endpoint().parse().expect("it is an endpoint");
    let mut listener =
        rig.runtime().bind(&endpoint, SocketOptions::default()).await.expect("the endpoint is free");
    let ours = rig.open(&listener.endpoint().expect("it listens")).await;
    let (theirs, _) = listener.accept().await.expect("somebody has connected");
    calls_both_ways(&rig, ours, theirs).await;
}

/// TLS through a pipe that holds less than a record.
pub async fn through_a_small_pipe(rig: Rig) {
    let (ours, theirs) = duplex(1024);
    calls_both_ways(&rig, Box::new(ours), Box::new(theirs)).await;
}
