//! Runs with bound inputs and outputs in page-locked memory, which a graphics card copies from and to without the detour of pageable
//! memory. Built and tested with plain memory; it has not been run on a card (docs/performance.md).

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
    value::Tensor,
};

use super::session::show;
use crate::inference::{Input, NetworkError, Reader};

/// Memory for a session's input and outputs.
pub(super) struct Pinned {
    allocator: Allocator,
    outputs: MemoryInfo<'static>,
    /// The input's tensor, kept while the shape stays.
    input: Option<([usize; 4], Tensor<f32>)>,
}

impl Pinned {
    /// Page-locked memory of a CUDA device.
    pub(super) fn on_card(session: &Session, device: u32) -> Result<Self, NetworkError> {
        Self::of(session, AllocationDevice::CUDA_PINNED, device as i32)
    }

    /// Plain memory, for tests without a card.
    #[cfg(test)]
    pub(super) fn plain(session: &Session) -> Result<Self, NetworkError> {
        Self::of(session, AllocationDevice::CPU, 0)
    }

    fn of(session: &Session, device: AllocationDevice<'static>, id: i32) -> Result<Self, NetworkError> {
        let fail = |e: ort::Error| NetworkError::Load(format!("no memory for inputs and outputs: {e}"));
        let info = |kind| MemoryInfo::new(device.clone(), id, AllocatorType::Device, kind).map_err(fail);
        let allocator = Allocator::new(session, info(MemoryType::CPUInput)?).map_err(fail)?;
        Ok(Self { allocator, outputs: info(MemoryType::CPUOutput)?, input: None })
    }

    /// As [`crate::inference::Network::run`].
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        name: &str,
        input: &Input,
        read: &mut Reader<'_>,
    ) -> Result<(), NetworkError> {
        let fail = |e: ort::Error| NetworkError::Run(e.to_string());
        if self.input.as_ref().is_none_or(|(shape, _)| *shape != input.shape()) {
            let tensor = Tensor::<f32>::new(&self.allocator, input.shape()).map_err(fail)?;
            self.input = Some((input.shape(), tensor));
        }
        let Some((_, tensor)) = &mut self.input else { return Ok(()) };
        tensor.extract_tensor_mut().1.copy_from_slice(input.values());
        let mut binding = session.create_binding().map_err(fail)?;
        binding.bind_input(name, tensor).map_err(fail)?;
        for output in session.outputs() {
            binding.bind_output_to_device(output.name(), &self.outputs).map_err(fail)?;
        }
        binding.synchronize_inputs().map_err(fail)?;
        let outputs = session.run_binding(&binding).map_err(fail)?;
        binding.synchronize_outputs().map_err(fail)?;
        show(&outputs, read)
    }
}
