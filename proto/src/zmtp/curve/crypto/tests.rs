//! The primitives against published vectors and against a third implementation.

use crypto_secretbox::aead::{AeadInPlace, KeyInit};
use crypto_secretbox::{Tag, XSalsa20Poly1305};

use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

// "Cryptography in NaCl" (Bernstein 2009), sections 2 to 10: NaCl's and libsodium's tests scalarmult, core
// and box.
const ALICE_SECRET: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
const ALICE_PUBLIC: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
const BOB_SECRET: &str = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
const BOB_PUBLIC: &str = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
const FIRST_KEY: &str = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
const NONCE: &str = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37";
const MESSAGE: &str = "\
    be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41\
    db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0\
    a089bc76897040e082f937763848645e0705";
const BOX: &str = "\
    f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4\
    da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99\
    832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";

fn first_key() -> SharedKey {
    SharedKey(Zeroizing::new(hex(FIRST_KEY)))
}

#[test]
fn keys_agree_as_nacl_says() {
    for (secret, ours, theirs) in
        [(ALICE_SECRET, ALICE_PUBLIC, BOB_PUBLIC), (BOB_SECRET, BOB_PUBLIC, ALICE_PUBLIC)]
    {
        let secret = StaticSecret::from(hex::<32>(secret));
        assert_eq!(PublicKey::from(&secret).to_bytes(), hex(ours));
        assert_eq!(*SharedKey::agree(&secret, &hex(theirs)).unwrap().0, hex(FIRST_KEY));
    }
}

#[test]
fn boxes_are_nacls() {
    let mut sealed = [&[0; TAG][..], &hex::<131>(MESSAGE)].concat();
    first_key().seal(&hex(NONCE), &mut sealed);
    assert_eq!(sealed, hex::<147>(BOX));
    assert_eq!(first_key().open(&hex(NONCE), &mut sealed).unwrap(), hex::<131>(MESSAGE));

    // The same vector as a numbered message, by either implementation.
    let nonce: [u8; 24] = hex(NONCE);
    let prefix: &'static [u8; 16] = Box::leak(Box::new(*nonce.first_chunk().unwrap()));
    let number = u64::from_be_bytes(*nonce.last_chunk().unwrap());
    let key = MessageKey::new(&first_key(), prefix);
    let mut sealed = [&[0; TAG][..], &hex::<131>(MESSAGE)].concat();
    key.seal(number, &mut sealed);
    assert_eq!(sealed, hex::<147>(BOX));
    assert_eq!(key.open(number, &mut sealed).unwrap(), hex::<131>(MESSAGE));
}

/// Compares all implementations for a message of this length.
fn compare(len: usize, number: u64) {
    let prefix = b"CurveZMQMESSAGEC";
    let plain: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
    let nonce = numbered_nonce(prefix, number);

    let mut theirs = plain.clone();
    let reference = XSalsa20Poly1305::new(&hex::<32>(FIRST_KEY).into());
    let tag = reference.encrypt_in_place_detached(&nonce.into(), b"", &mut theirs).unwrap();
    let theirs = [&tag[..], &theirs].concat();

    let key = MessageKey::new(&first_key(), prefix);
    let mut message = [&[0; TAG][..], &plain].concat();
    key.seal(number, &mut message);
    assert!(message == theirs, "a message of {len} bytes");
    let mut boxed = [&[0; TAG][..], &plain].concat();
    first_key().seal(&nonce, &mut boxed);
    assert!(boxed == theirs, "a box of {len} bytes");

    let mut reopened = message[TAG..].to_vec();
    let tag = Tag::clone_from_slice(&message[..TAG]);
    reference.decrypt_in_place_detached(&nonce.into(), b"", &mut reopened, &tag).unwrap();
    assert!(reopened == plain);
    assert!(key.open(number, &mut message).unwrap() == plain, "{len} bytes");
    assert!(first_key().open(&nonce, &mut boxed).unwrap() == plain, "{len} bytes");
}

#[test]
fn three_implementations_agree() {
    for len in (0..2 * SMALL).chain([4_095, 4_096, 65_535, 65_536, 65_537, 1_000_003]) {
        compare(len, len as u64 * 0x0123_4567_89AB);
    }
    compare(100, u64::MAX);
    compare(10_000, u64::MAX);
}

#[test]
fn nothing_that_was_changed_opens() {
    let key = MessageKey::new(&first_key(), b"CurveZMQMESSAGES");
    for len in [0, 1, 40, SMALL, SMALL + 1] {
        let mut sealed = vec![3; TAG + len];
        key.seal(9, &mut sealed);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x10;
            let before = changed.clone();
            assert!(key.open(9, &mut changed).is_none());
            assert!(changed == before, "nothing is decrypted");
        }
        assert!(key.open(8, &mut sealed.clone()).is_none());
        assert!(key.open(9, &mut sealed[..TAG + len - len.min(1)].to_vec()).is_none() || len == 0);
        assert!(key.open(9, &mut sealed).is_some());
    }
    assert!(key.open(9, &mut [0; TAG - 1]).is_none());
    assert!(first_key().open(&[0; 24], &mut [0; TAG - 1]).is_none());
}

/// Only the types can be checked: whether memory is zeroed could only be seen after it is freed.
#[test]
fn secrets_are_of_types_that_erase_them() {
    fn erases_itself<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    let (Seed(seed), SharedKey(shared)) = (&Seed::new([1; 32]), &first_key());
    let MessageKey { whole: _, derived, prefix: _ } = &MessageKey::new(&first_key(), b"CurveZMQMESSAGES");
    erases_itself(seed);
    erases_itself(shared);
    erases_itself(derived);
}

#[test]
fn what_is_derived_depends_on_seed_and_label() {
    let derive = |seed: u8, label: &[u8; 16]| *Seed::new([seed; 32]).derive(label);
    assert_eq!(derive(1, b"server ephemeral"), derive(1, b"server ephemeral"));
    assert_ne!(derive(1, b"server ephemeral"), derive(1, b"client ephemeral"));
    assert_ne!(derive(1, b"server ephemeral"), derive(2, b"server ephemeral"));
}
