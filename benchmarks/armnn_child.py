"""Runs a TFLite file in Arm NN: for the distribution's own Python, which has `pyarmnn` (and an old numpy).

    /usr/bin/python3 armnn_child.py MODEL.tflite INPUTS.npz OUTPUTS.npz

INPUTS holds `input0`, … [N, *shape] in the order of the file, of its types; OUTPUTS gets `output0`, … [N, *shape].
"""

from __future__ import annotations

import sys

import numpy as np
import pyarmnn as ann


def main(model: str, given: str, wanted: str) -> None:
    parser = ann.ITfLiteParser()
    network = parser.CreateNetworkFromBinaryFile(model)
    inputs = [parser.GetNetworkInputBindingInfo(0, n) for n in parser.GetSubgraphInputTensorNames(0)]
    outputs = [parser.GetNetworkOutputBindingInfo(0, n) for n in parser.GetSubgraphOutputTensorNames(0)]
    runtime = ann.IRuntime(ann.CreationOptions())
    backends = [ann.BackendId("CpuRef")]
    optimized, _ = ann.Optimize(network, backends, runtime.GetDeviceSpec(), ann.OptimizerOptions())
    loaded, _ = runtime.LoadNetwork(optimized)
    with np.load(given, allow_pickle=False) as file:
        feeds = [file[f"input{k}"] for k in range(len(inputs))]
    found = [[] for _ in outputs]
    for i in range(len(feeds[0])):
        # sizes are the file's, with its batch axis
        samples = [np.ascontiguousarray(x[i]).reshape(-1) for x in feeds]
        tensors = ann.make_output_tensors(outputs)
        runtime.EnqueueWorkload(loaded, ann.make_input_tensors(inputs, samples), tensors)
        for values, y in zip(found, ann.workload_tensors_to_ndarray(tensors), strict=True):
            values.append(np.array(y).reshape(y.shape[1:]))
    np.savez(wanted, **{f"output{k}": np.stack(v) for k, v in enumerate(found)})


if __name__ == "__main__":
    main(*sys.argv[1:])
