//! plugins/monitoring
