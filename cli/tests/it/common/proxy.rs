//! A network that lets so much through and no more, or changes what it carries.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::net::sockopt::set_socket_recv_buffer_size;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Towards {
    Server,
    Client,
}

#[derive(Clone, Copy)]
pub(crate) enum Harm {
    /// Holds back what comes after so many bytes.
    Stall(usize),
    /// Turns an `a` between others into a `b`, once, after so many bytes.
    Change(usize),
}

/// Carries one connection. Ends it when dropped.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    streams: Receiver<TcpStream>,
    gate: Option<Sender<()>>,
}

impl Proxy {
    pub(crate) fn new(server: &str, towards: Towards, harm: Harm) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let endpoint = format!("tcp://{}", listener.local_addr().expect("it is bound"));
        let server = server.strip_prefix("tcp://").expect("it is TCP").to_owned();
        let (gate, gated) = channel();
        let (tell, streams) = channel();
        std::thread::spawn(move || {
            let Ok((client, _)) = listener.accept() else { return };
            let server = TcpStream::connect(server).expect("it listens");
            for stream in [&client, &server] {
                // Little is on its way when it stalls.
                set_socket_recv_buffer_size(stream, 64 * 1024).expect("a size");
                // The other side may have gone.
                let _ = tell.send(stream.try_clone().expect("there are descriptors"));
            }
            let clones = (client.try_clone(), server.try_clone());
            let (back_from, back_to) = (clones.0.expect("as above"), clones.1.expect("as above"));
            let (harmed, plain) = match towards {
                Towards::Server => ((client, server), (back_to, back_from)),
                Towards::Client => ((server, client), (back_from, back_to)),
            };
            std::thread::spawn(move || carry(plain.0, plain.1, None));
            carry(harmed.0, harmed.1, Some((harm, gated)));
        });
        Self { endpoint, streams, gate: Some(gate) }
    }

    /// From now on it lets everything through.
    pub(crate) fn open(&mut self) {
        self.gate = None;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for stream in self.streams.try_iter() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut harm: Option<(Harm, Receiver<()>)>) {
    let mut buf = vec![0; 64 * 1024];
    let mut carried = 0;
    loop {
        let room = match &harm {
            Some((Harm::Stall(after), gate)) if carried == *after => {
                // Until it is opened, or the proxy goes.
                let _ = gate.recv();
                harm = None;
                buf.len()
            }
            Some((Harm::Stall(after), _)) => buf.len().min(after - carried),
            _ => buf.len(),
        };
        let Ok(n @ 1..) = from.read(&mut buf[..room]) else { break };
        if let Some((Harm::Change(after), _)) = &harm
            && carried >= *after
            && let Some(at) = buf[..n].windows(65).position(|window| window.iter().all(|byte| *byte == b'a'))
        {
            buf[at + 32] = b'b';
            harm = None;
        }
        carried += n;
        if to.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    // The other side learns that there is no more.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
