//! What `get` and `put` take from a server that does not keep to what it says.

use std::fs;

use crate::common::scratch::Scratch;
use crate::common::transfer::with_server;
use crate::common::{Ended, Process, RUNTIMES, command};
use bytes::Bytes;
use callosum_runtime::{BodyReader, Context, HandlerResult, Metadata, Responder};

/// What a server says, and what it sends then.
#[derive(Clone)]
struct Lie {
    head: Vec<(&'static str, String)>,
    content: Vec<u8>,
    /// Whether the content comes again and again.
    endless: bool,
    checksum: Vec<u8>,
}

impl Lie {
    /// It is none yet.
    fn honest(content: &[u8]) -> Self {
        Self {
            head: vec![("offset", "0".into()), ("size", content.len().to_string())],
            content: content.to_vec(),
            endless: false,
            checksum: blake3::hash(content).as_bytes().to_vec(),
        }
    }

    async fn tell(self, responder: Responder) -> HandlerResult<()> {
        let mut head = Metadata::new();
        for (name, value) in self.head {
            head.insert(name, value.into_bytes()).unwrap();
        }
        let mut result = responder.metadata(head).begin().await?;
        loop {
            result.write_bytes(Bytes::from(self.content.clone())).await?;
            if !self.endless {
                break;
            }
        }
        result.write_bytes(Bytes::from(self.checksum)).await?;
        Ok(())
    }
}

/// Runs `callosum get` against a server that answers so.
fn get(lie: &Lie, runtime: &str, file: &str) -> Ended {
    let lie = lie.clone();
    let builder = callosum_tokio::builder()
        .handle_stream("get", move |_: BodyReader, responder: Responder, _: Context| {
            lie.clone().tell(responder)
        });
    with_server(builder, |endpoint| {
        Process::spawn(command(&["file", "get", endpoint, "x", file, "--runtime", runtime])).end()
    })
}

#[test]
fn a_get_takes_no_more_and_no_less_than_was_said() {
    let content = vec![b'x'; 1_000_000];
    let honest = Lie::honest(&content);
    let size =
        |size: &str| Lie { head: vec![("offset", "0".into()), ("size", size.into())], ..honest.clone() };
    let without = |name: &str| Lie {
        head: honest.head.iter().filter(|(has, _)| *has != name).cloned().collect(),
        ..honest.clone()
    };
    let offset = Lie { head: vec![("offset", "7".into()), ("size", "1000000".into())], ..honest.clone() };
    let cases = [
        // It goes on for ever, and is not waited for.
        (Lie { endless: true, ..honest.clone() }, "InvalidAnswer", 0),
        (Lie { endless: true, ..size("0") }, "InvalidAnswer", 0),
        (size("999999"), "InvalidAnswer", 0),
        // What has come may be the beginning of the file.
        (size("1000001"), "Incomplete", 1),
        (Lie { checksum: vec![0; 32], ..honest.clone() }, "ChecksumMismatch", 0),
        (Lie { checksum: vec![], ..honest.clone() }, "Incomplete", 1),
        (Lie { content: vec![], checksum: vec![0; 31], ..honest.clone() }, "Incomplete", 0),
        (without("size"), "InvalidAnswer", 0),
        (without("offset"), "InvalidAnswer", 0),
        (size("many"), "InvalidAnswer", 0),
        (size("-1"), "InvalidAnswer", 0),
        (offset, "InvalidAnswer", 0),
    ];
    for runtime in RUNTIMES {
        for (n, (lie, error, kept)) in cases.iter().enumerate() {
            let scratch = Scratch::new();
            get(lie, runtime, &scratch.text("file")).expect(1).expect_stderr(error);
            assert!(!scratch.path("file").exists(), "{n}");
            assert_eq!(scratch.partials("").len(), *kept, "{n}");
            let out = get(lie, runtime, "-").expect(1).expect_stderr(error);
            assert!(out.stdout.concat().len() <= content.len(), "{n}");
        }
        let scratch = Scratch::new();
        get(&size("1000001"), runtime, &scratch.text("file")).expect(1);
        // What has come survives an answer that makes no sense, and not more than was said.
        for (lie, kept) in [(without("size"), 1), (size("1000"), 0)] {
            get(&lie, runtime, &scratch.text("file")).expect(1).expect_stderr("InvalidAnswer");
            assert_eq!(scratch.partials("").len(), kept);
        }
        get(&honest, runtime, &scratch.text("file")).expect(0);
        assert_eq!(fs::read(scratch.path("file")).unwrap(), content);
    }
}

#[test]
fn a_put_believes_no_nonsense() {
    let scratch = Scratch::new();
    let sent = scratch.file("sent", 1_000_000, 1);
    // How much the server has, and which checksum.
    let cases: [(&'static str, &'static [u8], &str); 5] = [
        ("many", b"", "InvalidAnswer"),
        ("1000", b"short", "InvalidAnswer"),
        ("1000", b"", "Incomplete"),
        ("1000", &[0; 33], "InvalidAnswer"),
        // Done before anything was sent.
        ("0", b"", "Incomplete"),
    ];
    for runtime in RUNTIMES {
        for (offset, checksum, error) in cases {
            let builder = callosum_tokio::builder().handle_stream(
                "put",
                move |_: BodyReader, responder: Responder, _: Context| async move {
                    let mut head = Metadata::new();
                    head.insert("offset", offset).unwrap();
                    let mut result = responder.metadata(head).begin().await?;
                    result.write_bytes(Bytes::from_static(checksum)).await?;
                    HandlerResult::Ok(())
                },
            );
            let put = with_server(builder, |endpoint| {
                Process::spawn(command(&["file", "put", endpoint, &sent, "--runtime", runtime])).end()
            });
            assert!(put.expect(1).expect_stderr(error).stdout.is_empty());
        }
    }
}
