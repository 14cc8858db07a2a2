//! What is known of the terminal that an output writes to.

use std::os::fd::{AsRawFd, BorrowedFd};

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// The size of the terminal behind `fd`; None where it is no terminal or does not know its size.
pub fn size(fd: BorrowedFd<'_>) -> Option<Size> {
    let mut window = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open for the borrow, and TIOCGWINSZ writes one winsize.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut window) };
    (done == 0 && window.ws_col > 0 && window.ws_row > 0).then(|| Size {
        columns: window.ws_col.into(),
        rows: window.ws_row.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};

    use super::*;

    #[test]
    fn a_file_has_no_size() {
        let file = File::open("/dev/null").expect("/dev/null opens");
        assert_eq!(size(file.as_fd()), None);
    }

    #[test]
    fn a_terminal_has_the_size_it_was_given() {
        let window = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: openpty writes the two descriptors and reads the size; the rest may be null.
        let done = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                &window,
            )
        };
        assert_eq!(done, 0);
        // SAFETY: openpty succeeded, so that both are open and nobody else owns them.
        let (_ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let expected = Size {
            columns: 80,
            rows: 24,
        };
        assert_eq!(size(theirs.as_fd()), Some(expected));
    }
}
