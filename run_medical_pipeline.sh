#!/usr/bin/env bash
# From scans to an adapted model's mesh, with one command. Research use, not for diagnosis.
#
#   ./run_medical_pipeline.sh
#       Demo: makes synthetic phantom scans, prepares a mesh data set, adapts the built-in tiny model with LoRA, and
#       scores it on patients that it has not seen. Writes ./demo.
#   ./run_medical_pipeline.sh --raw_nifti SCANS --out OUT --classes 1+2
#       The same on your scans (TotalSegmentator or Decathlon layout, or a folder of image/label pairs).
#       --classes 1+2,3 means two structures: the union of labels 1 and 2, and label 3.
#   ./run_medical_pipeline.sh --help
#       All options: --modality --patient_rule --field_of_view --test_nifti --seed --epochs --batch_size --lr --device
#       --lora_rank --lora_alpha --checkpoint_dir --eval_dir --resume --num_workers --only_preprocess --only_train
#       --only_eval --no_preprocess ...
#
# The first run makes .venv and installs into it (a few minutes; see scripts/setup_venv.sh). The demo then takes about
# a quarter of an hour on two cores, a data set of 60 small scans about three quarters. A second run starts at once and redoes
# only the steps whose options or inputs changed; a run that was cut off goes on where it was.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
preset=$root/configs/demo.yaml
for argument in "$@"; do
    case $argument in
        -h | --help)
            # Answers at once also where nothing is installed yet.
            sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            [[ -x $root/.venv/bin/sam3d-med ]] || exit 0
            exec "$root/.venv/bin/sam3d-med" pipeline --help
            ;;
        --raw_nifti | --raw_nifti=*) preset=$root/configs/structure.yaml ;;
    esac
done
for argument in "$@"; do
    case $argument in --config | --config=*) preset="" ;; esac
done

bash "$root/scripts/setup_venv.sh"
exec "$root/.venv/bin/sam3d-med" pipeline ${preset:+--config "$preset"} "$@"
