"""The only access to Dynamo's modules. Importing this module imports torch's compiler."""

from torch._dynamo import config as config
from torch._dynamo import eval_frame as eval_frame
from torch._dynamo import guards as guards
from torch._dynamo import output_graph as output_graph
from torch._dynamo.variables import functions as functions
from torch._guards import TracingContext as TracingContext
from torch._guards import tracing as tracing
