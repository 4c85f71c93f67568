//! `mytunnel audit`: what was done, by whom; `--verify` proves that nothing was taken out.
