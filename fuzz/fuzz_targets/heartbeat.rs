//! Any bytes as a frame's header, as a heartbeat and as a list of neighbours: refused or read, and what was
//! read is written alike.

#![no_main]

use cluster::envelope::{HEADER_LEN, Header, Seal};
use cluster::heartbeat::Heartbeat;
use cluster::{Key, Neighbour};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.encode(), bytes[..HEADER_LEN]);
        let seal = Seal::new(&Key::new([7; 32]), header.cluster, header.unit, header.boot);
        if let Ok(body) = seal.open(&header, bytes) {
            _ = Heartbeat::decode(&body);
        }
    }
    if let Ok(beat) = Heartbeat::decode(bytes) {
        let again = Heartbeat::decode(&beat.encode());
        assert_eq!(again.as_ref(), Ok(&beat));
    }
    if let Ok(list) = Neighbour::decode(bytes) {
        assert_eq!(Neighbour::decode(&Neighbour::encode(&list)), Ok(list));
    }
});
