"""The GPUs that kernels are compiled for, as the tuner would see one of each.

The shared memory that a block may ask for and the compiler's names are those of the CUDA C++ Programming Guide, table
"Technical Specifications per Compute Capability"; multiprocessors and L2 caches are a T4's, A100's, A10's, L4's,
H200's, B200's and RTX PRO 6000's.
"""

from enginewright_builder.device.implementation import Device

DEVICES: dict[int, Device] = {
    capability: Device(
        capability=capability, multiprocessors=multiprocessors, l2_bytes=l2 << 20, shared_bytes=shared << 10
    )
    for capability, multiprocessors, l2, shared in (
        (75, 40, 4, 64),
        (80, 108, 40, 163),
        (86, 72, 6, 99),
        (89, 58, 48, 99),
        (90, 132, 50, 227),
        (100, 148, 126, 227),
        (120, 188, 128, 99),
    )
}
STATIC_SHARED = 48 << 10  # bytes that a kernel may declare; more must be asked for at the launch
REGISTERS = 64 << 10  # of a multiprocessor: a block that needs more can't be launched
