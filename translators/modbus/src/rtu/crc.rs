//! The checksum of RTU frames.

/// CRC-16/MODBUS: polynomial 0x8005 reflected, initial value 0xFFFF, nothing inverted at the end
/// (MODBUS over Serial Line V1.02, appendix B). It travels low byte first.
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc: u16, byte| {
        let [low, _] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

/// Whether the last two bytes are the checksum of those before.
pub(crate) fn is_intact(frame: &[u8]) -> bool {
    frame
        .split_last_chunk::<2>()
        .is_some_and(|(body, checksum)| crc16(body) == u16::from_le_bytes(*checksum))
}

/// What a byte does to the checksum.
static TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums_come_out() {
        // The catalogue's check value, the specification's example, and a request that every
        // manual prints.
        assert_eq!(crc16(b"123456789"), 0x4B37);
        assert_eq!(crc16(&[0x02, 0x07]), 0x1241);
        assert_eq!(crc16(&[0x01, 0x03, 0x00, 0x00, 0x00, 0x0A]), 0xCDC5);
        assert_eq!(crc16(&[]), 0xFFFF);
    }

    #[test]
    fn a_frame_with_one_wrong_bit_is_not_intact() {
        let frame = [0x01, 0x03, 0x00, 0x00, 0x00, 0x0A, 0xC5, 0xCD];
        assert!(is_intact(&frame));
        for bit in 0..64 {
            let mut wrong = frame;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_intact(&wrong), "bit {bit}");
        }
        assert!(!is_intact(&[]));
        assert!(!is_intact(&[0xFF]));
    }
}
