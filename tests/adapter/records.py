"""A record that adapters of these tests are saved with."""

from sam3d_objects.adapter import AdapterMeta, InferenceContract

META = AdapterMeta(
    stage="structure",
    base_name="tiny",
    base_fingerprint="f",
    organs=("liver",),
    contract=InferenceContract(field_of_view="scan", modality="ct"),
)
