"""The intake workload as somebody would write it by hand on Temporal, to be measured beside FlowTrack."""
