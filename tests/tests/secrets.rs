//! What is in spans, events and errors under CURVE: who called, and no secret.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};

use callosum_hosts::Host;
use callosum_runtime::auth::{CurveClient, CurveKeyPair, KeySet, generate_keys, load_keys, save_keys};
use callosum_runtime::{Context, HandlerResult, Reconnect};
use callosum_tests::rig::{Rig, Transport, next_event, on};
use parking_lot::Mutex;
use serde_json::Value;
use tracing::{Subscriber, field, span};

/// All that was said, a line for each span and event.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(line: String) {
    SAID.lock().push(line);
}

/// Takes every span and event with all of its fields.
struct Recorder;

struct Fields(String);

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields(format!("span {}", attributes.metadata().name()));
        attributes.record(&mut fields);
        note(fields.0);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut fields = Fields(String::from("record"));
        values.record(&mut fields);
        note(fields.0);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(format!("event {}", event.metadata().level()));
        event.record(&mut fields);
        note(fields.0);
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The bytes of a text (RFC 32 of ZeroMQ): four for every five characters.
fn from_z85(text: &str) -> Vec<u8> {
    const DIGITS: &str =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    let digit = |c: &u8| DIGITS.find(char::from(*c)).expect("it is a digit") as u32;
    let word = |five: &[u8]| five.iter().fold(0_u32, |sum, c| sum.wrapping_mul(85).wrapping_add(digit(c)));
    text.as_bytes().chunks(5).flat_map(|five| word(five).to_be_bytes()).collect()
}

/// Every way in which a secret key may be written: as it is kept, as bytes in decimal and in hexadecimal.
fn spellings(keys: &CurveKeyPair) -> Vec<String> {
    let text = keys.secret_z85();
    let bytes = from_z85(&text);
    let hex = |upper: bool| -> String {
        bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    // The first bytes would be enough.
    let decimal = format!("{:?}", &bytes[..8]);
    let pretty = format!("{:#?}", &bytes[..8]);
    let inner = |text: &str| text.trim_matches(|c: char| matches!(c, '[' | ']' | '\n' | ' ')).to_owned();
    vec![
        text.to_string(),
        hex(false)[..16].to_owned(),
        hex(true)[..16].to_owned(),
        inner(&decimal),
        inner(&pretty),
    ]
}

async fn nothing_says_a_secret(rig: Rig) {
    // Another test of this process may have been first; it has set the same.
    let _ = tracing::subscriber::set_global_default(Recorder);
    let (server, alice, mallory) = (generate_keys(), generate_keys(), generate_keys());
    let server_key = server.public();
    let allowed = KeySet::new(server.clone());
    let user = format!("alice-{}", alice.public());
    allowed.admit(alice.public(), user.as_str());
    let whoami = |_: Value, context: Context| async move {
        HandlerResult::Ok(context.identity().map(|identity| identity.user_id.clone()))
    };
    let serving = rig.builder().authenticator(allowed.clone()).handle("whoami", whoami);
    note(format!("{serving:?} {serving:#?} {allowed:?} {:?}", rig.builder()));
    let (binder, driver) = rig.serve(serving).await;
    let mut events = binder.events();
    note(format!("{binder:?}"));

    let good = CurveClient::new(alice.clone(), server_key);
    note(format!("{good:?} {good:#?} {alice:?} {:?} {:#?}", server, mallory));
    let (connector, good_driver) = rig.connect(rig.builder().authenticator(good), &binder.endpoints()[0]);
    let called: Option<String> =
        connector.peer().invoke("whoami", &()).key("a key").await.expect("it is admitted");
    assert_eq!(called.as_deref(), Some(user.as_str()));
    note(format!("{:?} {:?}", connector.peer().info(), connector));

    // Who is refused, who knows another key of the server, and who reads a file that is no secret key.
    for (keys, key) in [(&mallory, server_key), (&alice, mallory.public())] {
        let bad =
            rig.builder().reconnect(Reconnect::Never).authenticator(CurveClient::new(keys.clone(), key));
        let (refused, refused_driver) = rig.connect(bad, &binder.endpoints()[0]);
        let error = refused.peer().invoke::<_, ()>("whoami", &()).await.expect_err("it is not admitted");
        note(format!("{error} {error:?} {error:#?}"));
        let ended = refused_driver.join().await.expect_err("it was the only attempt");
        note(format!("{ended} {ended:?}"));
    }
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("callosum-secrets-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("there is room");
    save_keys(&alice, dir.join("alice")).expect("it can be written");
    let again = save_keys(&alice, dir.join("alice")).expect_err("it is there already");
    let mut text = std::fs::read_to_string(dir.join("alice")).expect("it can be read");
    text.insert(1, 'x');
    std::fs::write(dir.join("alice"), text).expect("it can be written");
    let broken = load_keys(dir.join("alice")).expect_err("it is no key any more");
    note(format!("{again} {again:?} {broken} {broken:?}"));
    std::fs::remove_dir_all(&dir).expect("it is there");

    // A revocation.
    allowed.revoke(&alice.public());
    loop {
        let gone = next_event(&mut events, |event| {
            note(format!("{event:?}"));
            Some(matches!(event, callosum_runtime::Event::Disconnected { .. }))
        });
        if gone.await {
            break;
        }
    }
    good_driver.cut().await;
    driver.cut().await;

    let said = SAID.lock().clone();
    let has = |kind: &str, what: &[&str]| {
        said.iter().any(|line| line.starts_with(kind) && what.iter().all(|what| line.contains(what)))
    };
    assert!(has("span call", &["whoami", "a key", &user]), "the handler's span says who calls");
    assert!(has("event INFO", &["peer connected", &user]), "the link's event says who connects");
    assert!(said.iter().any(|line| line.contains(&mallory.public().to_string())), "who was refused is said");
    for keys in [&server, &alice, &mallory] {
        for spelling in spellings(keys) {
            let line = said.iter().find(|line| line.contains(&spelling));
            assert_eq!(line, None, "a secret, as {spelling}");
        }
    }
}

#[test]
fn nothing_says_a_secret_on_tokio() {
    on(Host::Tokio, "secrets", Transport::Tcp, nothing_says_a_secret);
}

#[test]
fn nothing_says_a_secret_on_async_std() {
    on(Host::AsyncStd, "secrets", Transport::Tcp, nothing_says_a_secret);
}
