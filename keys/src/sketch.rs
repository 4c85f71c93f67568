//! Counting per key in memory that does not grow.
//!
//! Two rows of counters, chosen by a keyed hash; the smaller of a key's two counters counts. Strangers can
//! neither fill the table nor flush a counter out of it; keys that share both cells only share a limit.

use std::hash::{BuildHasher, Hash, RandomState};

/// Counters per row.
const CELLS: usize = 4096;

/// So many within so many seconds.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// How many.
    pub tries: u32,
    /// Within so many seconds.
    pub window: u64,
}

/// Come back after so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub u64);

/// Counters of one limit.
#[derive(Debug)]
pub struct Sketch {
    limit: Limit,
    rows: [Row; 2],
}

#[derive(Debug)]
struct Row {
    key: RandomState,
    cells: Box<[Cell]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    since: u64,
    count: u32,
}

impl Sketch {
    /// Counters at zero.
    pub fn new(limit: Limit) -> Self {
        let row = || Row { key: RandomState::new(), cells: vec![Cell::default(); CELLS].into() };
        Self { limit, rows: [row(), row()] }
    }

    /// Would one more be too many?
    ///
    /// # Errors
    /// When it would be; says how long for.
    pub fn check(&self, key: &impl Hash, now: u64) -> Result<(), RetryAfter> {
        let cells = self.rows.iter().map(|row| row.cells[row.index(key)]);
        let waits = cells.map(|cell| {
            let end = cell.since.saturating_add(self.limit.window);
            // A clock set back must not lock anybody out for longer than a window.
            let current = cell.since <= now && now < end;
            if current && cell.count >= self.limit.tries { end - now } else { 0 }
        });
        match waits.min() {
            Some(0) | None => Ok(()),
            Some(wait) => Err(RetryAfter(wait)),
        }
    }

    /// Counts one, unless it is one too many.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn admit(&mut self, key: &impl Hash, now: u64) -> Result<(), RetryAfter> {
        self.check(key, now)?;
        self.add(key, now, 1);
        Ok(())
    }

    /// Counts up or down.
    pub fn add(&mut self, key: &impl Hash, now: u64, change: i32) {
        for row in &mut self.rows {
            let index = row.index(key);
            let cell = &mut row.cells[index];
            if cell.since > now || now - cell.since >= self.limit.window {
                *cell = Cell { since: now, count: 0 };
            }
            cell.count = cell.count.saturating_add_signed(change);
        }
    }
}

impl Row {
    fn index(&self, key: &impl Hash) -> usize {
        (self.key.hash_one(key) % CELLS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { tries: 3, window: 60 };

    #[test]
    fn each_key_has_its_own_count_and_a_new_window_a_new_one() {
        let mut sketch = Sketch::new(LIMIT);
        for _ in 0..3 {
            sketch.admit(&"a", 1000).unwrap();
        }
        assert_eq!(sketch.admit(&"a", 1010), Err(RetryAfter(50)));
        sketch.admit(&"b", 1010).unwrap();
        sketch.admit(&"a", 1060).unwrap();
    }

    #[test]
    fn a_flood_of_other_keys_does_not_free_a_full_one() {
        let mut sketch = Sketch::new(LIMIT);
        sketch.add(&"victim", 1000, 3);
        for other in 0..2000_u32 {
            sketch.add(&other, 1001, 1);
        }
        assert!(sketch.check(&"victim", 1002).is_err());
    }
}
