"""The quantized Wan / LightX2V engine; it knows nothing of the app that drives it.

`engine.spec` holds torch-free facts (jobs, events, headers, architectures); everything else
needs torch. A run is `engine.pipeline.run(job, stop)`, a generator of events.
"""
