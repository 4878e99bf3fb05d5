//! What is written, and the memory of what is read.

use super::super::output::{COPY_MAX, OutputQueue};
use super::*;

#[test]
fn output_is_framed_as_rfc_23_says_and_whole() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    let tail = Bytes::from(vec![7; 300]);
    link.send(Multipart::with_tail(Bytes::from_static(b"M"), Bytes::new(), Bytes::from_static(b"ab"), tail))
        .unwrap();
    // Half of a frame is written when a command is queued.
    link.advance_output(3);
    feed(&mut link, now, command("PING", b"\0\0")).unwrap();
    link.send(three(b"N", Bytes::from(vec![1; 255]), Bytes::from(vec![2; 256]))).unwrap();
    let body = [&b"ab"[..], &[7; 300]].concat();
    let expected = [
        frame(MORE, b"")[..].to_vec(),
        frame(0, &body).to_vec(),
        command("PONG", b"").to_vec(),
        frame(MORE, b"N").to_vec(),
        frame(MORE, &[1; 255]).to_vec(),
        frame(0, &[2; 256]).to_vec(),
    ]
    .concat();
    assert_eq!(flush(&mut link), expected);
    assert_eq!(link.send(Multipart::default()), Err(LinkError::NoFrames));
}

#[test]
fn small_messages_are_one_slice_and_large_bodies_are_not_copied() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    for _ in 0..100 {
        link.send(three(b"UPPER", Bytes::from_static(b"header"), Bytes::from(vec![0; 64]))).unwrap();
    }
    let body = Bytes::from(vec![1; COPY_MAX + 1]);
    let prefix = Bytes::from_static(b"prefix");
    link.send(Multipart::with_tail(Bytes::new(), Bytes::new(), prefix, body.clone())).unwrap();
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(link.output(&mut slices), 2);
    assert_eq!(slices[1].as_ptr(), body.as_ptr());
}

#[test]
fn buffers_of_large_bodies_are_used_again_once_they_are_free() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    let mut take = |len: usize, fill: u8| {
        feed(&mut link, now, Bytes::from(frame(0, &vec![fill; len]))).unwrap();
        let body = messages(&mut link)[0][0].clone();
        assert!(body == vec![fill; len]);
        body
    };
    let (first, second) = (take(60_000, 1), take(60_000, 2));
    let at = first.as_ptr();
    let third = take(60_000, 3);
    assert!(third.as_ptr() != at, "the first is still held");
    drop(first);
    let fourth = take(50_000, 4);
    assert_eq!(fourth.as_ptr(), at);
    assert!(second == vec![2; 60_000] && third == vec![3; 60_000]);
}

#[test]
fn large_bodies_in_pieces_grow_as_they_come() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    let body: Vec<u8> = (0..3_000_000_u32).map(|index| (index / 7) as u8).collect();
    let mut input = Bytes::from(frame(0, &body));
    while !input.is_empty() {
        let piece = input.split_to(input.len().min(64 << 10));
        feed(&mut link, now, piece).unwrap();
    }
    assert!(messages(&mut link) == [[Bytes::from(body)]]);
}

#[test]
fn bodies_do_not_pin_the_read_buffer() {
    let now = Instant::now();
    for len in [100, 30_000] {
        let mut link = shake(&config(), now, 1);
        let input = Bytes::from(frame(0, &vec![5; len]));
        feed(&mut link, now, input.clone()).unwrap();
        let held = messages(&mut link);
        assert!(input.is_unique(), "{held:?} shares it");
    }
}

#[test]
fn output_queue_keeps_order_and_count() {
    let mut queue = OutputQueue::default();
    let mut expected = Vec::new();
    for (index, len) in [0, 1, COPY_MAX, COPY_MAX + 1, 60_000, 5, COPY_MAX, 70_000].into_iter().enumerate() {
        let piece = Bytes::from(vec![index as u8; len]);
        queue.push(&piece);
        expected.extend_from_slice(&piece);
    }
    let mut written = Vec::new();
    while queue.pending() > 0 {
        let mut slices = [IoSlice::new(&[]); 2];
        let filled = queue.slices(&mut slices);
        let piece = joined(&slices[..filled]);
        let taken = piece.len().min(12_345);
        written.extend_from_slice(&piece[..taken]);
        queue.advance(taken);
        assert_eq!(queue.pending(), expected.len() - written.len());
    }
    assert!(written == expected);
    queue.advance(1);
    assert_eq!(queue.pending(), 0);
}
