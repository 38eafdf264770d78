//! Reads a write-ahead log before SQLite does, which takes a damaged one for a shorter one.
//! Used when the log is opened, after a stop that was not in order: each of its commits is synced.
//! Must never call the torn end that a power cut leaves a damage: it was never acknowledged.
//! Read next: `sqlite.rs`.
//!
//! ```text
//!   header │ frame │ frame C │ frame │ frame C │ old frames of a former round …
//!                       │                 └ the last commit may be torn: not acknowledged
//!                       └ a commit with anything of its round behind it was synced: it must be whole
//! ```

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The last bit says in which byte order the sums are taken.
const MAGIC: u32 = 0x377f_0682;

/// Where a write-ahead log is damaged, in bytes; `None` when all that was synced is whole.
pub(super) fn damage(path: &Path) -> io::Result<Option<u64>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut header = Vec::with_capacity(HEADER_BYTES);
    (&mut reader)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    let Some(round) = Round::read(&header) else {
        // A file that was just made has nothing behind its header.
        let mut frame = [0; FRAME_HEADER_BYTES];
        let behind = reader.read_exact(&mut frame).is_ok() && frame.iter().any(|byte| *byte != 0);
        return Ok(behind.then_some(0));
    };
    round.damage(reader)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|four| four.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

/// One round of a write-ahead log: what was written since its header.
struct Round {
    big_endian: bool,
    page_bytes: usize,
    salt: (u32, u32),
    sum: (u32, u32),
}

impl Round {
    fn read(header: &[u8]) -> Option<Self> {
        let magic = word(header, 0);
        let round = Self {
            big_endian: magic & 1 == 1,
            page_bytes: word(header, 8) as usize,
            salt: (word(header, 16), word(header, 20)),
            sum: (word(header, 24), word(header, 28)),
        };
        let sane = header.len() == HEADER_BYTES
            && magic & !1 == MAGIC
            && round.page_bytes.is_power_of_two()
            && (512..=65_536).contains(&round.page_bytes);
        let sound = sane && round.add((0, 0), header.get(..24)?) == round.sum;
        sound.then_some(round)
    }

    /// SQLite's running sum over pairs of words.
    fn add(&self, sum: (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let word = |four: &[u8]| {
            let four = four.try_into().unwrap_or_default();
            if self.big_endian {
                u32::from_be_bytes(four)
            } else {
                u32::from_le_bytes(four)
            }
        };
        bytes.chunks_exact(8).fold(sum, |(one, two), pair| {
            let (first, second) = pair.split_at(4);
            let one = one.wrapping_add(word(first)).wrapping_add(two);
            (one, two.wrapping_add(word(second)).wrapping_add(one))
        })
    }

    fn damage(&self, mut reader: impl Read) -> io::Result<Option<u64>> {
        let mut frame = vec![0; FRAME_HEADER_BYTES + self.page_bytes];
        let (mut at, mut sum) = (HEADER_BYTES as u64, self.sum);
        // The first frame that is not sound, and whether a whole commit was seen behind it.
        let mut broken: Option<u64> = None;
        let mut committed = false;
        while read_whole(&mut reader, &mut frame)? {
            let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
            let of_this_round = (word(head, 8), word(head, 12)) == self.salt;
            if broken.is_none() {
                let next = self.add(self.add(sum, head.get(..8).unwrap_or_default()), page);
                if of_this_round && next == (word(head, 16), word(head, 20)) {
                    sum = next;
                } else {
                    broken = Some(at);
                }
            }
            if broken.is_some() && of_this_round {
                if committed {
                    return Ok(broken);
                }
                committed = word(head, 4) != 0;
            }
            at += frame.len() as u64;
        }
        Ok(None)
    }
}

/// False at the end of the file, also in the middle of a frame: a frame that was cut is none.
fn read_whole(reader: &mut impl Read, frame: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(frame) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
