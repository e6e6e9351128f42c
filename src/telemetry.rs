//! Every metric name once; the log set-up. Metrics carry camera ids as labels, never people.
